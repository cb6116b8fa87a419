// activation.cpp - y = f(x) entry by entry, on tensors of any order. Saves what the slope is made of: y where that tells it, which the op behind
// mostly saves too, else x.
#include "error.hpp"
#include "launch.hpp"
#include "lib/finish.hpp"
#include "lib/into.hpp"
#include "math.hpp"
#include "ops.hpp"

namespace ssm::activation_op {

struct Gelu {
  static constexpr Finish::Kind finish = Finish::Kind::gelu;
  static constexpr const char* name = "gelu";
  static constexpr double flops = 20, exps = 1;
  static SSM_FN Real f(Real x) { return x * gauss(x).cdf; }
  static SSM_FN Real slope(Real x) {
    const Gauss<Real> g = gauss(x);
    return g.cdf + x * g.pdf;
  }
};

struct GeluTanh {
  static constexpr Finish::Kind finish = Finish::Kind::gelu_tanh;
  static constexpr const char* name = "gelu_tanh";
  static constexpr double flops = 10, exps = 1;
  static constexpr Real k = Real(2 * 0.79788456080286535588), cubic = Real(0.044715);
  static SSM_FN Real f(Real x) { return gelu_tanh(x); }
  static SSM_FN Real slope(Real x) {
    const Real s = sigmoid(k * x * (1 + cubic * x * x));
    return s + x * s * (1 - s) * k * (1 + 3 * cubic * x * x);
  }
};

struct Silu {
  static constexpr Finish::Kind finish = Finish::Kind::silu;
  static constexpr const char* name = "silu";
  static constexpr double flops = 5, exps = 1;
  static SSM_FN Real f(Real x) { return silu(x); }
  static SSM_FN Real slope(Real x) { return silu_slope(x); }
};

struct Tanh {
  static constexpr const char* name = "tanh";
  static constexpr double flops = 8, exps = 1;
  static SSM_FN Real f(Real x) { return fast_tanh(x); }
  static SSM_FN Real slope_from(Real y) { return 1 - y * y; }
};

struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  static constexpr double flops = 4, exps = 1;
  static SSM_FN Real f(Real x) { return sigmoid(x); }
  static SSM_FN Real slope_from(Real y) { return y * (1 - y); }
};

// Twice the sigmoid: strengths of a correction up to 2.
struct Sigmoid2 {
  static constexpr const char* name = "sigmoid2";
  static constexpr double flops = 5, exps = 1;
  static SSM_FN Real f(Real x) { return 2 * sigmoid(x); }
  static SSM_FN Real slope_from(Real y) { return y * (1 - y / 2); }
};

// elu(x) + 1, positive: the feature map of linear attention.
struct Elu1 {
  static constexpr const char* name = "elu1";
  static constexpr double flops = 2, exps = 1;
  static SSM_FN Real f(Real x) {
    const Real e = fast_exp(x < 0 ? x : Real(0));
    return x > 0 ? x + 1 : e;
  }
  static SSM_FN Real slope_from(Real y) { return y < 1 ? y : Real(1); }
};

// Kinds that a kernel of a stream's step can end with say so by a Kind::finish.
template <class Kind>
concept Finishes = requires(Finish::Kind kind) {
  kind = Kind::finish;
};

template <class Kind>
concept FromOutput = requires(Real y) {
  Kind::slope_from(y);
};
template <class Kind>
SSM_FN Real slope(Real saved) {
  if constexpr (FromOutput<Kind>) return Kind::slope_from(saved);
  else return Kind::slope(saved);
}

template <class Kind>
struct Activation final : Op {
  static constexpr Save kOfInput = FromOutput<Kind> ? drop : save, kOfOutput = FromOutput<Kind> ? save : drop;
  Tensor x, y;
  Activation(Net& net, Tensor x_) : Op(net), x(in(x_, kOfInput)), y(out(x_, kOfOutput)) {}
  const char* name() const override { return Kind::name; }

  void forward(const Run& r) override {
    const Real* X = v(x);
    each_into(
        "ssm::activation", r, x.size(), v(y), KOKKOS_LAMBDA(const Index i) { return Kind::f(X[i]); });
  }
  Follows follows(Tensor) const override { return Finishes<Kind> ? Follows::entries : Follows::no; }
  int finish(Tensor, Finish* to) const override {
    *to = Finish{};
    if constexpr (Finishes<Kind>) to->kind = Kind::finish;
    to->y = v(y), to->ld = to->count = columns(y);
    return 1;
  }
  void backward(const Run& r) override {
    const Real *saved = v(FromOutput<Kind> ? y : x), *dY = d(y);
    each_into(
        "ssm::activation_backward", r, x.size(), g(x), KOKKOS_LAMBDA(const Index i) { return dY[i] * slope<Kind>(saved[i]); });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    const double flops_back = FromOutput<Kind> ? 4 : Kind::flops + 4, exps_back = FromOutput<Kind> ? 0 : Kind::exps;
    return {{Kind::flops * n_, Kind::exps * n_, 2 * real * n_}, {flops_back * n_, exps_back * n_, 3 * real * n_}};
  }
};

// Keeps one byte an entry: whether it passed.
struct Relu final : Op {
  Tensor x, y, passed;
  Relu(Net& net, Tensor x_) : Op(net), x(in(x_, drop)), y(out(x_, drop)) {
    if (n.mode == Mode::train) passed = keep(shaped({(x.size() + kBytesOfReal - 1) / kBytesOfReal}));
  }
  static constexpr Index kBytesOfReal = sizeof(Real);
  const char* name() const override { return "relu"; }

  void forward(const Run& r) override {
    const Real* X = v(x);
    if (n.mode != Mode::train)
      return each_into(
          "ssm::relu", r, x.size(), v(y), KOKKOS_LAMBDA(const Index i) { return X[i] > 0 ? X[i] : Real(0); });
    auto* bytes = reinterpret_cast<unsigned char*>(v(passed));
    each_into(
        "ssm::relu", r, x.size(), v(y), KOKKOS_LAMBDA(const Index i) {
          const Real value = X[i];
          bytes[i] = value > 0;
          return value > 0 ? value : Real(0);
        });
  }
  void backward(const Run& r) override {
    const Real* dY = d(y);
    const auto* bytes = reinterpret_cast<const unsigned char*>(v(passed));
    each_into(
        "ssm::relu_backward", r, x.size(), g(x), KOKKOS_LAMBDA(const Index i) { return bytes[i] ? dY[i] : Real(0); });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{n_, 0, (2 * real + 1) * n_}, {n_, 0, (2 * real + 1) * n_}};
  }
};

}  // namespace ssm::activation_op

namespace ssm {

Tensor activation(Net& n, Tensor x, const std::string& kind) {
  using namespace activation_op;
  if (kind == "id") return x;
  if (kind == "gelu") return n.add<Activation<Gelu>>(x);
  if (kind == "gelu_tanh") return n.add<Activation<GeluTanh>>(x);
  if (kind == "silu") return n.add<Activation<Silu>>(x);
  if (kind == "relu") return n.add<Relu>(x);
  if (kind == "tanh") return n.add<Activation<Tanh>>(x);
  if (kind == "sigmoid") return n.add<Activation<Sigmoid>>(x);
  if (kind == "sigmoid2") return n.add<Activation<Sigmoid2>>(x);
  if (kind == "elu1") return n.add<Activation<Elu1>>(x);
  unknown("activation", kind, {"gelu", "gelu_tanh", "silu", "relu", "tanh", "sigmoid", "sigmoid2", "elu1", "id"});
}

}  // namespace ssm
