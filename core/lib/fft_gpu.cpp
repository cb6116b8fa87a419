// fft_gpu.cpp - cuFFT, on the stream of the run's instance, with work areas that the plan of the net provides. Plans are made at the first
// call, which is never a captured one: a net can be described on a machine without a device.
#include <cufft.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "launch.hpp"
#include "lib/fft_pairs.hpp"

namespace ssm {

namespace fft_gpu {

void check(cufftResult status, const char* call) {
  if (status != CUFFT_SUCCESS) throw std::runtime_error(std::string(call) + ": cuFFT error " + std::to_string(static_cast<int>(status)));
}

template <class R>
struct Cufft;
template <>
struct Cufft<float> {
  using Number = cufftComplex;
  static constexpr cufftType c2c = CUFFT_C2C, r2c = CUFFT_R2C, c2r = CUFFT_C2R;
  static cufftResult run(cufftHandle p, Number* x, int sign) { return cufftExecC2C(p, x, x, sign < 0 ? CUFFT_FORWARD : CUFFT_INVERSE); }
  static cufftResult run(cufftHandle p, float* x, Number* X) { return cufftExecR2C(p, x, X); }
  static cufftResult run(cufftHandle p, Number* X, float* x) { return cufftExecC2R(p, X, x); }
};
template <>
struct Cufft<double> {
  using Number = cufftDoubleComplex;
  static constexpr cufftType c2c = CUFFT_Z2Z, r2c = CUFFT_D2Z, c2r = CUFFT_Z2D;
  static cufftResult run(cufftHandle p, Number* x, int sign) { return cufftExecZ2Z(p, x, x, sign < 0 ? CUFFT_FORWARD : CUFFT_INVERSE); }
  static cufftResult run(cufftHandle p, double* x, Number* X) { return cufftExecD2Z(p, x, X); }
  static cufftResult run(cufftHandle p, Number* X, double* x) { return cufftExecZ2D(p, X, x); }
};

// One transform of `rows` rows of n, in a work area given with every call.
class Plan {
 public:
  Plan() = default;
  Plan(const Plan&) = delete;
  ~Plan() {
    if (made_) cufftDestroy(handle_);
  }
  cufftHandle on(const Run& r, cufftType type, Index rows, Index n, void* area, Index area_bytes) {
    if (!made_) {
      check(cufftCreate(&handle_), "cufftCreate");
      made_ = true;
      check(cufftSetAutoAllocation(handle_, 0), "cufftSetAutoAllocation");
      long long length = n;
      check(cufftMakePlanMany64(handle_, 1, &length, nullptr, 1, n, nullptr, 1, n, type, rows, &needed_), "cufftMakePlanMany64");
    }
    if (static_cast<Index>(needed_) > area_bytes)
      throw std::runtime_error("cuFFT wants a work area of " + std::to_string(needed_) + " bytes for " + std::to_string(rows) +
                               " rows of " + std::to_string(n) + ", planned are " + std::to_string(area_bytes));
    check(cufftSetWorkArea(handle_, area), "cufftSetWorkArea");
    check(cufftSetStream(handle_, r.exec.space.cuda_stream()), "cufftSetStream");
    return handle_;
  }

 private:
  cufftHandle handle_ = 0;
  std::size_t needed_ = 0;
  bool made_ = false;
};

struct GpuConv final : PairConv {
  std::map<Index, Plan> plans;  // by number of rows: whole groups of channels and the last one

  explicit GpuConv(const ConvShape& shape) : PairConv(shape, smooth_size(std::max<Index>(2 * shape.T - 1, 2)), Index(1) << 24) {}
  Z* transform(const Run& r, Index rows, int sign, Z* x, Z* other) override {
    using Number = Cufft<Real>::Number;
    const cufftHandle plan = plans[rows].on(r, Cufft<Real>::c2c, rows, n, other, rows * n * static_cast<Index>(sizeof(Z)));
    check(Cufft<Real>::run(plan, reinterpret_cast<Number*>(x), sign), "cufftExec");
    return x;
  }
};

template <class R>
struct GpuRows final : RealRows<R> {
  using A = Cufft<R>;
  using Number = typename A::Number;
  Index rows, n;
  Plan to, from;

  GpuRows(Index count, Index length) : rows(count), n(length) {}
  // As much as the data where n has small factors; other lengths go through a convolution of twice the length.
  Index scratch() const override { return rows * (smooth_size(n) == n ? 2 * n + 2 : 16 * n) + 4096; }
  Index bytes() const { return scratch() * static_cast<Index>(sizeof(R)); }
  void forward(const Run& r, const R* x, R* X, R* work) override {
    check(A::run(to.on(r, A::r2c, rows, n, work, bytes()), const_cast<R*>(x), reinterpret_cast<Number*>(X)), "cufftExec");
  }
  void inverse(const Run& r, R* X, R* x, R* work) override {
    check(A::run(from.on(r, A::c2r, rows, n, work, bytes()), reinterpret_cast<Number*>(X), x), "cufftExec");
  }
};

}  // namespace fft_gpu

std::unique_ptr<LongConv> long_conv(const ConvShape& shape) { return std::make_unique<fft_gpu::GpuConv>(shape); }
std::unique_ptr<RealRows<Real>> real_rows(Index rows, Index n) { return std::make_unique<fft_gpu::GpuRows<Real>>(rows, n); }
std::unique_ptr<RealRows<Wide>> wide_rows(Index rows, Index n) { return std::make_unique<fft_gpu::GpuRows<Wide>>(rows, n); }
std::string fft_name() {
  return "cuFFT " + std::to_string(CUFFT_VER_MAJOR) + '.' + std::to_string(CUFFT_VER_MINOR) + '.' + std::to_string(CUFFT_VER_PATCH);
}

}  // namespace ssm
