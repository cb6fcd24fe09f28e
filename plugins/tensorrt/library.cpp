// The functions by which TensorRT finds the plugins of a shared library, and the one by which the Python side asks what
// went wrong. Nothing else is exported, and no library of TensorRT is linked: one file serves every version.

#include <memory>
#include <mutex>

#include "core/error.h"
#include "tensorrt/last_error.h"
#include "tensorrt/plugin.h"

namespace bnn::tensorrt {
namespace {

std::mutex error_mutex;
std::string error_text;

class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  explicit Creator(const Operator& op) : operator_(op), names_(op) {}

  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase) noexcept override {
    const std::string where = operator_.name + " '" + (name ? name : "") + "'";
    return guarded(where, static_cast<nvinfer1::IPluginV3*>(nullptr), [&]() -> nvinfer1::IPluginV3* {
      if (!fields) refuse("no attributes");
      return std::make_unique<Plugin>(operator_, read_attributes(operator_, *fields)).release();
    });
  }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return names_.collection(); }
  const char* getPluginName() const noexcept override { return operator_.name.c_str(); }
  const char* getPluginVersion() const noexcept override { return kPluginVersion; }
  const char* getPluginNamespace() const noexcept override { return kPluginNamespace; }

 private:
  const Operator& operator_;
  const FieldList names_;
};

}  // namespace

void set_last_error(const std::string& where, const std::string& message) {
  const std::lock_guard<std::mutex> lock(error_mutex);
  error_text = where + ": " + message;
}

}  // namespace bnn::tensorrt

#define BNN_EXPORT extern "C" __attribute__((visibility("default")))

BNN_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  using namespace bnn::tensorrt;
  static std::vector<std::unique_ptr<Creator>> creators;
  static std::vector<nvinfer1::IPluginCreatorInterface*> pointers;
  static std::once_flag once;
  std::call_once(once, [] {
    for (const Operator& op : operators()) {
      creators.push_back(std::make_unique<Creator>(op));
      pointers.push_back(creators.back().get());
    }
  });
  count = static_cast<int32_t>(pointers.size());
  return pointers.data();
}

// The logger is never called: where its functions are differs between major versions of TensorRT.
BNN_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder*) {}

// The last error of any plugin of this library, and that there was none from then on. Returns how long it was.
BNN_EXPORT int bnn_plugin_last_error(char* text, int bytes) {
  using namespace bnn::tensorrt;
  const std::lock_guard<std::mutex> lock(error_mutex);
  const int length = static_cast<int>(error_text.size());
  if (bytes > 0) {
    const int copied = length < bytes - 1 ? length : bytes - 1;
    error_text.copy(text, static_cast<size_t>(copied));
    text[copied] = 0;
  }
  error_text.clear();
  return length;
}
