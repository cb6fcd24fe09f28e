// What went wrong last. TensorRT is told no more than that something did; its own words would name neither value.
#pragma once

#include <exception>
#include <string>

namespace bnn::tensorrt {

// For the whole process: TensorRT calls plugins from threads of its own.
void set_last_error(const std::string& where, const std::string& message);

// Runs `work`; an exception becomes the last error, and `failed` is returned.
template <class Work, class Result>
Result guarded(const std::string& where, Result failed, const Work& work) noexcept {
  try {
    return work();
  } catch (const std::exception& error) {
    set_last_error(where, error.what());
  } catch (...) {
    set_last_error(where, "an unknown error");
  }
  return failed;
}

}  // namespace bnn::tensorrt
