// The library's entry point: ONNX Runtime calls RegisterCustomOps with the options of a session.
//
// No exception crosses into ONNX Runtime: each becomes a status that names the node.

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <new>

#include "onnxruntime/kernel.h"

#if defined(_WIN32)
#define BNN_EXPORT extern "C" __declspec(dllexport)
#else
#define BNN_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace bnn::ort {
namespace {

constexpr const char* kDomain = "bnn_deploy";

// An operator, as ONNX Runtime wants it described. The struct of the ABI comes first: a pointer to the one is a pointer
// to the other.
struct RegisteredOp {
  CustomOp abi;
  const Operator* op;
};

const Operator& operator_of(const CustomOp* self) { return *reinterpret_cast<const RegisteredOp*>(self)->op; }

// A kernel and what its error messages begin with.
struct Node {
  const Api* api;
  std::string title;  // PackedConv2d 'layer1.0.conv'
  std::unique_ptr<Kernel> kernel;
  ConstantVectors constants;
};

// Runs `body`; what it throws becomes a status.
template <class Body>
Status* guarded(const Api& api, const std::string& title, Body body) {
  try {
    body();
    return nullptr;
  } catch (const InvalidInput& error) {
    return api.CreateStatus(kInvalidArgument, (title + ": " + error.what()).c_str());
  } catch (const std::exception& error) {
    return api.CreateStatus(kFail, (title + ": " + error.what()).c_str());
  }
}

Status* BNN_ORT_CALL create_kernel(const CustomOp* self, const Api* api, const KernelInfo* info, void** kernel) {
  const Operator& op = operator_of(self);
  std::string title = op.name;
  return guarded(*api, title, [&] {
    const NodeInfo node_info(*api, info);
    title += " '" + node_info.name() + "'";
    auto node = std::make_unique<Node>(Node{api, title, op.create(op, node_info), {node_info, op.inputs.size()}});
    *kernel = node.release();
  });
}

Status* BNN_ORT_CALL compute(void* kernel, KernelContext* context) {
  const Node& node = *static_cast<const Node*>(kernel);
  return guarded(*node.api, node.title, [&] {
    Call call(*node.api, context, node.constants);
    node.kernel->run(call);
  });
}

// The latest version of the API that a release has: its second number. To ask for a table that is not there would
// print a warning.
uint32_t api_version(const std::string& release) {
  return static_cast<uint32_t>(std::strtoul(release.c_str() + release.find('.') + 1, nullptr, 10));
}

size_t BNN_ORT_CALL in_place(int** inputs, int** outputs) {
  static int input = kInPlaceInput, output = 0;
  *inputs = &input;
  *outputs = &output;
  return 1;
}

// version: of the API, no later than ONNX Runtime has.
CustomOp describe(const Operator& described, uint32_t version) {
  CustomOp op{};
  op.version = version;
  op.GetName = [](const CustomOp* self) { return operator_of(self).name.c_str(); };
  op.GetExecutionProviderType = [](const CustomOp*) -> const char* { return "CPUExecutionProvider"; };
  op.GetInputType = [](const CustomOp* self, size_t index) { return operator_of(self).inputs[index]; };
  op.GetInputTypeCount = [](const CustomOp* self) { return operator_of(self).inputs.size(); };
  op.GetOutputType = [](const CustomOp* self, size_t index) { return operator_of(self).outputs[index]; };
  op.GetOutputTypeCount = [](const CustomOp* self) { return operator_of(self).outputs.size(); };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Node*>(kernel); };
  op.GetInputCharacteristic = [](const CustomOp*, size_t) { return kRequired; };
  op.GetOutputCharacteristic = [](const CustomOp*, size_t) { return kRequired; };
  op.GetInputMemoryType = [](const CustomOp*, size_t) { return kDefaultMemory; };
  op.GetVariadicInputMinArity = [](const CustomOp*) { return 0; };
  op.GetVariadicInputHomogeneity = [](const CustomOp*) { return 0; };
  op.GetVariadicOutputMinArity = [](const CustomOp*) { return 0; };
  op.GetVariadicOutputHomogeneity = [](const CustomOp*) { return 0; };
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = compute;
  op.GetStartVersion = [](const CustomOp*) { return 1; };
  op.GetEndVersion = [](const CustomOp*) { return 1; };
  if (described.in_place) op.GetMayInplace = in_place;
  op.ReleaseMayInplace = [](int*, int*) {};
  return op;
}

const std::vector<RegisteredOp>& registered_ops(uint32_t version) {
  static const std::vector<RegisteredOp> registered = [version] {
    std::vector<RegisteredOp> all;
    for (const Operator& op : all_operators()) all.push_back({describe(op, version), &op});
    return all;
  }();
  return registered;
}

// ONNX Runtime keeps the pointer to a domain in each session's options and never frees it: one serves all sessions.
CustomOpDomain* domain(const Api& api, uint32_t version) {
  static CustomOpDomain* const made = [&api, version] {
    CustomOpDomain* fresh = nullptr;
    check_status(api, api.CreateCustomOpDomain(kDomain, &fresh));
    for (const RegisteredOp& op : registered_ops(version)) check_status(api, api.CustomOpDomain_Add(fresh, &op.abi));
    return fresh;
  }();
  return made;
}

}  // namespace
}  // namespace bnn::ort

BNN_EXPORT bnn::ort::Status* BNN_ORT_CALL RegisterCustomOps(bnn::ort::SessionOptions* options,
                                                            const bnn::ort::ApiBase* base) {
  const bnn::ort::Api* api = base->GetApi(bnn::ort::kApiVersion);
  if (api == nullptr) {
    // Only an ONNX Runtime that is too old has no such table; its version 1 has what an error needs.
    const std::string found = base->GetVersionString();
    const std::string text =
        "bnn_deploy: ONNX Runtime is " + found + ", wanted " + bnn::ort::kFirstRelease + " or later";
    return base->GetApi(1)->CreateStatus(bnn::ort::kFail, text.c_str());
  }
  return bnn::ort::guarded(*api, "bnn_deploy", [&] {
    const uint32_t version = std::min(bnn::ort::api_version(base->GetVersionString()), bnn::ort::kInPlaceApiVersion);
    bnn::ort::check_status(*api, api->AddCustomOpDomain(options, bnn::ort::domain(*api, version)));
  });
}
