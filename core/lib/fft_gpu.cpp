// fft_gpu.cpp - cuFFT or hipFFT, which name everything alike, on the stream of the run's instance, with work areas that the plan of the net
// provides. Plans are made at the first call, which is never a captured one: a net can be described on a machine without a device.
#include "lib/gpu.hpp"
#if defined(KOKKOS_ENABLE_CUDA)
#include <cufft.h>
#define SSM_FFT(name)    cufft##name
#define SSM_FFT_IS(name) CUFFT_##name
#else
#include <hipfft/hipfft.h>
#define SSM_FFT(name)    hipfft##name
#define SSM_FFT_IS(name) HIPFFT_##name
#endif

#include <algorithm>
#include <stdexcept>
#include <unordered_map>

#include "lib/fft_pairs.hpp"

namespace ssm {

namespace fft_gpu {

using Result = SSM_FFT(Result);
using Handle = SSM_FFT(Handle);
using Type = SSM_FFT(Type);

void check(Result status, const char* call) {
  if (status != SSM_FFT_IS(SUCCESS))
    throw std::runtime_error(fft_name() + " refuses " + call + ": error " + std::to_string(static_cast<int>(status)));
}

template <class R>
struct Library;
template <>
struct Library<float> {
  using Number = SSM_FFT(Complex);
  static constexpr Type c2c = SSM_FFT_IS(C2C), r2c = SSM_FFT_IS(R2C), c2r = SSM_FFT_IS(C2R);
  static Result run(Handle p, Number* x, int sign) { return SSM_FFT(ExecC2C)(p, x, x, sign); }  // -1 is forward to both
  static Result run(Handle p, float* x, Number* X) { return SSM_FFT(ExecR2C)(p, x, X); }
  static Result run(Handle p, Number* X, float* x) { return SSM_FFT(ExecC2R)(p, X, x); }
};
template <>
struct Library<double> {
  using Number = SSM_FFT(DoubleComplex);
  static constexpr Type c2c = SSM_FFT_IS(Z2Z), r2c = SSM_FFT_IS(D2Z), c2r = SSM_FFT_IS(Z2D);
  static Result run(Handle p, Number* x, int sign) { return SSM_FFT(ExecZ2Z)(p, x, x, sign); }  // -1 is forward to both
  static Result run(Handle p, double* x, Number* X) { return SSM_FFT(ExecD2Z)(p, x, X); }
  static Result run(Handle p, Number* X, double* x) { return SSM_FFT(ExecZ2D)(p, X, x); }
};

// One transform of `rows` rows of n, in a work area given with every call.
class Plan {
 public:
  Plan() = default;
  Plan(const Plan&) = delete;
  ~Plan() {
    if (made_) SSM_FFT(Destroy)(handle_);
  }
  Handle on(const Run& r, Type type, Index rows, Index n, void* area, Index area_bytes) {
    if (!made_) {
      check(SSM_FFT(Create)(&handle_), "Create");
      made_ = true;
      check(SSM_FFT(SetAutoAllocation)(handle_, 0), "SetAutoAllocation");
      long long length = n;
      check(SSM_FFT(MakePlanMany64)(handle_, 1, &length, nullptr, 1, n, nullptr, 1, n, type, rows, &needed_), "MakePlanMany64");
      gpu_check(SSM_GPU(DeviceSynchronize)(), "tables of a transform");  // copied on another stream than the one they are read on
    }
    if (static_cast<Index>(needed_) > area_bytes)
      throw std::runtime_error(fft_name() + " wants a work area of " + std::to_string(needed_) + " bytes for " + std::to_string(rows) +
                               " rows of " + std::to_string(n) + ", planned are " + std::to_string(area_bytes));
    check(SSM_FFT(SetWorkArea)(handle_, area), "SetWorkArea");
    check(SSM_FFT(SetStream)(handle_, gpu_stream(r.exec)), "SetStream");
    return handle_;
  }

 private:
  Handle handle_ = 0;
  std::size_t needed_ = 0;
  bool made_ = false;
};

struct GpuConv final : PairConv {
  std::unordered_map<Index, Plan> plans;  // by number of rows: whole groups of channels and the last one

  explicit GpuConv(const ConvShape& shape) : PairConv(shape, smooth_size(std::max<Index>(2 * shape.T - 1, 2)), Index(1) << 24) {}
  Z* transform(const Run& r, Index rows, int sign, Z* x, Z* other) override {
    using Number = Library<Real>::Number;
    const Handle plan = plans[rows].on(r, Library<Real>::c2c, rows, n, other, rows * n * static_cast<Index>(sizeof(Z)));
    check(Library<Real>::run(plan, reinterpret_cast<Number*>(x), sign), "Exec");
    return x;
  }
};

template <class R>
struct GpuRows final : RealRows<R> {
  using A = Library<R>;
  using Number = typename A::Number;
  Index rows, n;
  Plan to, from;

  GpuRows(Index count, Index length) : rows(count), n(length) {}
  // As much as the data where n has small factors; other lengths go through a convolution of twice the length.
  Index scratch() const override { return rows * (smooth_size(n) == n ? 2 * n + 2 : 16 * n) + 4096; }
  Index bytes() const { return scratch() * static_cast<Index>(sizeof(R)); }
  void forward(const Run& r, const R* x, R* X, R* work) override {
    check(A::run(to.on(r, A::r2c, rows, n, work, bytes()), const_cast<R*>(x), reinterpret_cast<Number*>(X)), "Exec");
  }
  void inverse(const Run& r, R* X, R* x, R* work) override {
    check(A::run(from.on(r, A::c2r, rows, n, work, bytes()), reinterpret_cast<Number*>(X), x), "Exec");
  }
};

}  // namespace fft_gpu

std::unique_ptr<LongConv> long_conv(const ConvShape& shape) { return std::make_unique<fft_gpu::GpuConv>(shape); }
std::unique_ptr<RealRows<Real>> real_rows(Index rows, Index n) { return std::make_unique<fft_gpu::GpuRows<Real>>(rows, n); }
std::unique_ptr<RealRows<Wide>> wide_rows(Index rows, Index n) { return std::make_unique<fft_gpu::GpuRows<Wide>>(rows, n); }
std::string fft_name() {
#if defined(KOKKOS_ENABLE_CUDA)
  return "cuFFT " + std::to_string(CUFFT_VER_MAJOR) + '.' + std::to_string(CUFFT_VER_MINOR) + '.' + std::to_string(CUFFT_VER_PATCH);
#else
  return "hipFFT " + std::to_string(hipfftVersionMajor) + '.' + std::to_string(hipfftVersionMinor) + '.' +
         std::to_string(hipfftVersionPatch);
#endif
}

}  // namespace ssm
