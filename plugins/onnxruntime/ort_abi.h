// ONNX Runtime's C ABI, as far as a custom-op library needs it: opaque types, the positions of a few functions in its
// table, and the struct that describes an operator. The table only ever grows at its end, so one build serves ONNX
// Runtime 1.17 and every later version, and no headers of it are needed. `ort_abi_check.cpp` compares this file with
// the real header where there is one.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#define BNN_ORT_CALL __stdcall
#else
#define BNN_ORT_CALL
#endif

namespace bnn::ort {

struct Status;
struct Value;
struct KernelInfo;
struct KernelContext;
struct SessionOptions;
struct CustomOpDomain;
struct TensorInfo;
struct Allocator;
struct MemoryInfo;
struct ShapeInferContext;
struct CustomOp;

constexpr uint32_t kApiVersion = 17;         // the first with KernelContext_ParallelFor
constexpr uint32_t kInPlaceApiVersion = 18;  // the first with CustomOp::GetMayInplace
constexpr const char* kFirstRelease = "1.17";

// The values of enumerations of the ABI.
enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum ElementType : int { kFloat = 1, kInt32 = 6, kFloat16 = 10 };
enum Characteristic : int { kRequired = 0 };
enum MemoryType : int { kDefaultMemory = 0 };
enum AllocatorType : int { kArena = 1 };

// The functions used, as (name, position in the table, type of the result, parameters).
#define BNN_ORT_FUNCTIONS(X)                                                                              \
  X(CreateStatus, 0, Status*, (ErrorCode, const char*))                                                   \
  X(GetErrorMessage, 2, const char*, (const Status*))                                                     \
  X(CreateCustomOpDomain, 26, Status*, (const char*, CustomOpDomain**))                                   \
  X(CustomOpDomain_Add, 27, Status*, (CustomOpDomain*, const CustomOp*))                                  \
  X(AddCustomOpDomain, 28, Status*, (SessionOptions*, CustomOpDomain*))                                   \
  X(GetTensorMutableData, 51, Status*, (Value*, void**))                                                  \
  X(GetTensorElementType, 60, Status*, (const TensorInfo*, ElementType*))                                 \
  X(GetDimensionsCount, 61, Status*, (const TensorInfo*, size_t*))                                        \
  X(GetDimensions, 62, Status*, (const TensorInfo*, int64_t*, size_t))                                    \
  X(GetTensorTypeAndShape, 65, Status*, (const Value*, TensorInfo**))                                     \
  X(CreateCpuMemoryInfo, 69, Status*, (AllocatorType, MemoryType, MemoryInfo**))                          \
  X(AllocatorAlloc, 75, Status*, (Allocator*, size_t, void**))                                            \
  X(AllocatorFree, 76, Status*, (Allocator*, void*))                                                      \
  X(KernelInfoGetAttribute_float, 85, Status*, (const KernelInfo*, const char*, float*))                  \
  X(KernelInfoGetAttribute_int64, 86, Status*, (const KernelInfo*, const char*, int64_t*))                \
  X(KernelContext_GetInputCount, 88, Status*, (const KernelContext*, size_t*))                            \
  X(KernelContext_GetInput, 90, Status*, (const KernelContext*, size_t, const Value**))                   \
  X(KernelContext_GetOutput, 91, Status*, (KernelContext*, size_t, const int64_t*, size_t, Value**))      \
  X(ReleaseStatus, 93, void, (Status*))                                                                   \
  X(ReleaseMemoryInfo, 94, void, (MemoryInfo*))                                                           \
  X(ReleaseTensorTypeAndShapeInfo, 99, void, (TensorInfo*))                                               \
  X(ReleaseAllocator, 132, void, (Allocator*))                                                            \
  X(KernelInfoGetAttributeArray_int64, 163, Status*, (const KernelInfo*, const char*, int64_t*, size_t*)) \
  X(KernelInfo_GetNodeName, 244, Status*, (const KernelInfo*, char*, size_t*))                            \
  X(KernelInfoGetConstantInput_tensor, 249, Status*, (const KernelInfo*, size_t, int*, const Value**))    \
  X(KernelContext_GetAllocator, 253, Status*, (const KernelContext*, const MemoryInfo*, Allocator**))     \
  X(KernelContext_ParallelFor, 274, Status*,                                                              \
    (const KernelContext*, void(BNN_ORT_CALL*)(void*, size_t), size_t total, size_t batches, void* user_data))

// The table itself. `api.CreateStatus(...)` reads as it does with the real header.
struct Api {
#define BNN_ORT_MEMBER(name, slot, result, parameters)            \
  template <class... Arguments>                                   \
  result name(Arguments... arguments) const {                     \
    using Function = result(BNN_ORT_CALL*) parameters;            \
    return reinterpret_cast<Function>(slots[slot])(arguments...); \
  }
  BNN_ORT_FUNCTIONS(BNN_ORT_MEMBER)
#undef BNN_ORT_MEMBER

  void* slots[275];
};

struct ApiBase {
  const Api*(BNN_ORT_CALL* GetApi)(uint32_t version);
  const char*(BNN_ORT_CALL* GetVersionString)();
};

// How an operator is described to ONNX Runtime.
struct CustomOp {
  uint32_t version;
  void*(BNN_ORT_CALL* CreateKernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char*(BNN_ORT_CALL* GetName)(const CustomOp*);
  const char*(BNN_ORT_CALL* GetExecutionProviderType)(const CustomOp*);
  ElementType(BNN_ORT_CALL* GetInputType)(const CustomOp*, size_t);
  size_t(BNN_ORT_CALL* GetInputTypeCount)(const CustomOp*);
  ElementType(BNN_ORT_CALL* GetOutputType)(const CustomOp*, size_t);
  size_t(BNN_ORT_CALL* GetOutputTypeCount)(const CustomOp*);
  void(BNN_ORT_CALL* KernelCompute)(void*, KernelContext*);
  void(BNN_ORT_CALL* KernelDestroy)(void*);
  Characteristic(BNN_ORT_CALL* GetInputCharacteristic)(const CustomOp*, size_t);
  Characteristic(BNN_ORT_CALL* GetOutputCharacteristic)(const CustomOp*, size_t);
  MemoryType(BNN_ORT_CALL* GetInputMemoryType)(const CustomOp*, size_t);
  int(BNN_ORT_CALL* GetVariadicInputMinArity)(const CustomOp*);
  int(BNN_ORT_CALL* GetVariadicInputHomogeneity)(const CustomOp*);
  int(BNN_ORT_CALL* GetVariadicOutputMinArity)(const CustomOp*);
  int(BNN_ORT_CALL* GetVariadicOutputHomogeneity)(const CustomOp*);
  Status*(BNN_ORT_CALL* CreateKernelV2)(const CustomOp*, const Api*, const KernelInfo*, void**);
  Status*(BNN_ORT_CALL* KernelComputeV2)(void*, KernelContext*);
  Status*(BNN_ORT_CALL* InferOutputShape)(const CustomOp*, ShapeInferContext*);
  int(BNN_ORT_CALL* GetStartVersion)(const CustomOp*);
  int(BNN_ORT_CALL* GetEndVersion)(const CustomOp*);
  // From API version 18 on. The two are not told which operator they speak for.
  size_t(BNN_ORT_CALL* GetMayInplace)(int** inputs, int** outputs);
  void(BNN_ORT_CALL* ReleaseMayInplace)(int* inputs, int* outputs);
  size_t(BNN_ORT_CALL* GetAliasMap)(int** inputs, int** outputs);
  void(BNN_ORT_CALL* ReleaseAliasMap)(int* inputs, int* outputs);
};

}  // namespace bnn::ort
