// test_net.cpp - what the plan decides: gradients that share a buffer, held to nets whose sums copy them; bit for bit, on memory that was NaN.
#include <gtest/gtest.h>

#include "op_check.hpp"
#include "ops.hpp"

namespace ssm {
namespace {

using Sum = std::function<Tensor(Net&, Tensor, Tensor)>;
using Build = std::function<Tensor(Net&, Tensor, const Sum&)>;

// a + b whose gradient is copied to both.
struct CopyingAdd final : Op {
  Tensor a, b, y;
  CopyingAdd(Net& net, Tensor a_, Tensor b_) : Op(net), a(in(a_, drop)), b(in(b_, drop)), y(out(a_, drop)) {}
  const char* name() const override { return "copying_add"; }
  void forward(const Run& r) override {
    copy(r, v(a), {v(y), false}, y.size());
    copy(r, v(b), {v(y), true}, y.size());
  }
  void backward(const Run& r) override {
    copy(r, d(y), g(a), y.size());
    copy(r, d(y), g(b), y.size());
  }
  Cost cost() const override { return {}; }
};

struct Result {
  std::vector<double> y;
  Arrays gradients;
  Net::Bytes bytes;
  int shared = 0;  // inputs of sums whose gradient is that of the sum
};

Result run(const Build& build, const Sum& sum) {
  ProbeSpec spec;
  spec.inputs = {shaped({2, 7, 6})};
  std::vector<std::array<Tensor, 3>> sums;
  const Sum noted = [&](Net& n, Tensor a, Tensor b) {
    sums.push_back({a, b, sum(n, a, b)});
    return sums.back()[2];
  };
  spec.build = [&](Net& n, const std::vector<Tensor>& x) { return build(n, x[0], noted); };
  Probe probe(test_device().exec(), spec);
  Result result;
  result.y = probe.forward({test_values("x", 84)});
  result.gradients = probe.backward(test_values("dy", static_cast<Index>(result.y.size())));
  for (const ParamInfo& p : probe.params().all()) result.gradients.push_back(probe.params().get_grad(p.name));
  result.bytes = probe.net().bytes();
  for (const auto& [a, b, y] : sums)
    for (const Tensor& x : {a, b}) result.shared += probe.net().grad(x) == probe.net().grad(y);
  return result;
}

Result check_shared(const Build& build) {
  const Result copied = run(build, [](Net& n, Tensor a, Tensor b) { return n.add<CopyingAdd>(a, b); });
  const Result shared = run(build, [](Net& n, Tensor a, Tensor b) { return add(n, a, b); });
  for (const auto& g : shared.gradients)
    for (const double v : g) EXPECT_TRUE(std::isfinite(v));
  EXPECT_EQ(shared.y, copied.y);
  EXPECT_EQ(shared.gradients, copied.gradients);
  EXPECT_LE(shared.bytes.gradients, copied.bytes.gradients);
  EXPECT_EQ(shared.bytes.without_reuse, copied.bytes.without_reuse);
  EXPECT_EQ(copied.shared, 0);
  return shared;
}

Tensor branch(Net& n, Tensor x, const std::string& name) {
  return activation(n, linear(n, layer_norm(n, x, name + "_norm"), 6, name), "tanh");
}

TEST(SharedGradients, StreamStaysInOneBuffer) {
  const Build build = [](Net& n, Tensor x, const Sum& sum) {
    x = activation(n, x, "tanh");
    for (int i = 0; i < 6; ++i) x = sum(n, x, branch(n, x, "f" + std::to_string(i)));
    return activation(n, x, "tanh");
  };
  EXPECT_EQ(check_shared(build).shared, 12);
  const Build wide = [](Net& n, Tensor x, const Sum& sum) {  // the sum alone is what takes most memory
    Tensor h = activation(n, linear(n, x, 600, "up"), "tanh");
    h = sum(n, h, activation(n, h, "tanh"));
    return linear(n, h, 6, "down");
  };
  const Result copied = run(wide, [](Net& n, Tensor a, Tensor b) { return n.add<CopyingAdd>(a, b); });
  const Index one = 2 * 7 * 600 * static_cast<Index>(sizeof(Real));
  EXPECT_EQ(copied.bytes.gradients - check_shared(wide).bytes.gradients, one / 256 * 256 + (one % 256 ? 256 : 0));
}

TEST(SharedGradients, TwoWaysJoined) {
  EXPECT_EQ(check_shared([](Net& n, Tensor x, const Sum& sum) {
              const Tensor a = activation(n, x, "tanh"), b = activation(n, x, "silu");
              return activation(n, sum(n, a, b), "tanh");
            }).shared,
            2);
}

// Where both gradients in one buffer would be wrong, one alone is.
TEST(SharedGradients, OneAlone) {
  const std::vector<Build> cases = {
      [](Net& n, Tensor x, const Sum& sum) {  // the branch adds to the gradient of the stream as it reads its own
        x = activation(n, x, "tanh");
        return activation(n, sum(n, x, linear(n, x, 6, "f")), "tanh");
      },
      [](Net& n, Tensor x, const Sum& sum) {  // the branch is read by another op, too
        x = activation(n, x, "tanh");
        const Tensor h = branch(n, x, "f"), other = activation(n, h, "silu");
        return multiply(n, sum(n, x, h), other);
      },
      [](Net& n, Tensor x, const Sum& sum) {  // two outputs of one op
        const auto parts = linear_split(n, x, {6, 6}, "f");
        return activation(n, sum(n, parts[0], parts[1]), "tanh");
      },
  };
  for (std::size_t k = 0; k < cases.size(); ++k) {
    SCOPED_TRACE(k);
    EXPECT_EQ(check_shared(cases[k]).shared, 1);
  }
}

TEST(SharedGradients, BranchIsASum) {
  EXPECT_EQ(check_shared([](Net& n, Tensor x, const Sum& sum) {
              x = activation(n, x, "tanh");
              const Tensor h = branch(n, x, "f"), k = branch(n, x, "g");
              return activation(n, sum(n, x, sum(n, h, k)), "tanh");
            }).shared,
            3);  // of h + k both, of x and their sum one
}

TEST(SharedGradients, NotWithOneGivenFromOutside) {
  EXPECT_EQ(check_shared([](Net& n, Tensor x, const Sum& sum) { return sum(n, x, branch(n, x, "f")); }).shared, 0);
}

// Sums, norms, products and branches between tensors chosen at random.
TEST(SharedGradients, AnyNet) {
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    const Build build = [seed](Net& n, Tensor x, const Sum& sum) {
      const Draw draw{seed, 1};
      Index drawn = 0;
      std::vector<Tensor> made = {x};
      std::vector<bool> used = {false};
      const auto pick = [&] {
        const auto back = static_cast<std::size_t>(draw.uniform(drawn++, 0, 3.999));
        const std::size_t k = made.size() - 1 - std::min(back, made.size() - 1);
        used[k] = true;
        return made[k];
      };
      for (int i = 0; i < 12; ++i) {
        const Tensor a = pick(), b = pick();
        const auto kind = static_cast<int>(draw.uniform(drawn++, 0, 7.999));
        const std::string name = "f" + std::to_string(i);
        if (a.id != b.id && kind < 5) made.push_back(sum(n, a, b));
        else made.push_back(kind == 5 ? layer_norm(n, a, name) : kind == 6 ? linear(n, a, 6, name) : activation(n, a, "tanh"));
        used.push_back(false);
        if (a.id != b.id && kind >= 5) made.push_back(multiply(n, b, made.back())), used.back() = true, used.push_back(false);
      }
      Tensor y = activation(n, made.back(), "tanh");
      for (std::size_t k = 0; k + 1 < made.size(); ++k)
        if (!used[k]) y = sum(n, y, made[k]);
      return activation(n, y, "tanh");
    };
    check_shared(build);
  }
}

// residual_add() of what `make` makes of its input, within the op that makes it, held to a sum after it.
void check_residual(const std::string& name, Tensor shape, const std::function<Tensor(Net&, Tensor)>& make) {
  SCOPED_TRACE(name);
  OpCase c;
  c.B = shape.B(), c.T = shape.T(), c.D = 6;
  c.inputs = {shape, shape};
  const auto build = [&](bool within) {
    return [&make, &name, within](Net& n, const std::vector<Tensor>& x) {
      const Tensor stream = activation(n, x[0], "tanh"), h = make(n, x[1]);
      const Tensor sum = within ? residual_add(n, stream, h) : add(n, stream, h);
      EXPECT_EQ(n.ops().back()->name(), within ? name : "add");
      return activation(n, sum, "tanh");
    };
  };
  c.build = build(false);
  const Arrays inputs = {test_values("input0", shape.size()), test_values("input1", shape.size())};
  c.expected = [&, apart = c](const Arrays&, Params&) { return Probe(test_device().exec(), apart).forward(inputs); };
  c.build = build(true);
  check_op(c);
  Tensor stream, sum;  // within the op, too, the gradient of the stream is that of the sum, in its buffer
  c.build = [&](Net& n, const std::vector<Tensor>& x) {
    const Tensor h = make(n, (stream = activation(n, x[0], "tanh"), x[1]));
    return activation(n, sum = residual_add(n, stream, h), "tanh");
  };
  Probe probe(test_device().exec(), c);
  EXPECT_EQ(probe.net().grad(stream), probe.net().grad(sum));
}

TEST(ResidualAdd, WithinTheOpThatMakesTheBranch) {
  const Tensor x = shaped({2, 5, 6}), turned = shaped({2, 6, 5}, Order::BDT);
  const auto wide = [](Net& n, Tensor t) { return linear(n, t, 12, "up", {.order = t.order}); };
  for (const Tensor& shape : {x, turned}) {
    check_residual("glu", shape, [&](Net& n, Tensor t) { return glu(n, wide(n, t)); });
    check_residual("sigmoid_gate", shape, [](Net& n, Tensor t) { return sigmoid_gate(n, activation(n, t, "silu"), t); });
    check_residual("silu_gate", shape, [](Net& n, Tensor t) { return silu_gate(n, activation(n, t, "tanh"), t); });
    for (const bool bias : {true, false})
      check_residual("linear", shape, [=](Net& n, Tensor t) { return linear(n, t, 6, "f", {.bias = bias, .order = t.order}); });
  }
  check_residual("linear", x, [](Net& n, Tensor t) { return linear(n, transpose(n, t), 6, "f"); });
}

// Where the op that made it cannot: it is not the last one, its output has a reader, it reads the stream itself, or it adds nothing.
TEST(ResidualAdd, ElseAnAdd) {
  using Make = std::function<Tensor(Net&, Tensor, Tensor&)>;  // the branch; may replace the stream
  const std::vector<Make> cases = {
      [](Net& n, Tensor x, Tensor& stream) {
        const Tensor h = linear(n, x, 6, "f");
        stream = activation(n, stream, "tanh");
        return h;
      },
      [](Net& n, Tensor x, Tensor& stream) {
        const Tensor h = linear(n, x, 6, "f");
        stream = multiply(n, stream, h);
        return h;
      },
      [](Net& n, Tensor x, Tensor& stream) {
        stream = add(n, stream, x);
        return linear(n, stream, 6, "f");
      },
      [](Net& n, Tensor x, Tensor&) { return activation(n, x, "tanh"); },
  };
  for (std::size_t k = 0; k < cases.size(); ++k) {
    SCOPED_TRACE(k);
    OpCase c;
    c.T = 5, c.D = 6;
    c.inputs = {shaped({2, 5, 6}), shaped({2, 5, 6})};
    c.build = [&](Net& n, const std::vector<Tensor>& x) {
      Tensor stream = activation(n, x[0], "tanh");
      const Tensor h = cases[k](n, x[1], stream);
      const Tensor y = residual_add(n, stream, h);
      EXPECT_STREQ(n.ops().back()->name(), "add");
      return activation(n, y, "tanh");
    };
    check_op(c);
  }
}

}  // namespace
}  // namespace ssm
