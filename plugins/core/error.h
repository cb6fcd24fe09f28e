// How a wrong input is refused: where, what was found, what is wanted. Caught at every C boundary, never past it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace bnn {

// The caller's input cannot be used as it is; `what()` names both values.
class InvalidInput : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws InvalidInput with its arguments written one after the other.
template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw InvalidInput(text.str());
}

}  // namespace bnn
