// The strided convolution in front of a model: plain loops and gradients, patches as its special case, bad input.
#include "model.hpp"
#include "op_check.hpp"
#include "open_task.hpp"
#include "ops/strided_conv.hpp"
#include "tiny_task.hpp"

namespace ssm {
namespace {

OpCase convolution(Index width, Index stride) {
  constexpr Index B = 2, T = 6, F = 3, D = 5;
  OpCase c;
  c.B = B, c.T = T, c.D = D;
  c.features = test_values("features", B * T * stride * F);
  c.build = [=](Net& n, const std::vector<Tensor>&) { return strided_conv(n, width, stride, F, D, "embed"); };
  c.expected = [=, x = c.features](const Arrays&, Params& params) {
    const std::vector<double> W = params.get("embed.weight"), b = params.get("embed.bias");
    std::vector<double> y;
    for (Index row = 0; row < B * T; ++row)
      for (Index d = 0; d < D; ++d) {
        double sum = b[static_cast<std::size_t>(d)];
        for (Index k = 0; k < width; ++k)
          for (Index f = 0; f < F; ++f) {
            const Index at = (row % T + 1) * stride - width + k;
            if (at < 0) continue;
            sum += W[static_cast<std::size_t>((d * width + k) * F + f)] * x[static_cast<std::size_t>((row / T * T * stride + at) * F + f)];
          }
        y.push_back(sum);
      }
    return y;
  };
  return c;
}

TEST(StridedConv, ReferenceAndGradients) {
  for (const auto& [width, stride] : {std::pair{4, 2}, {5, 3}, {7, 1}, {16, 2}}) check_op(convolution(width, stride));
}

TEST(StridedConv, PatchesAreItsSpecialCase) {
  OpCase patches = convolution(3, 3), windows = convolution(3, 3);
  patches.build = [](Net& n, const std::vector<Tensor>&) { return patch_embedding(n, 3, 3, 5, "embed"); };
  EXPECT_LT(relative_error(Probe(test_device().exec(), windows).forward({}), Probe(test_device().exec(), patches).forward({})),
            kDouble ? 1e-14 : 1e-6);
}

TEST(StridedConv, AsAFrontEnd) {
  const TaskInfo real = TinyTask(Target::classes, 3).info(), tokens = TinyTask(Target::classes).info();
  const auto message = [](const std::string& frontend, const TaskInfo& task) {
    ModelConfig c;
    c.variant = "gru", c.depth = 1, c.d_model = 4, c.frontend = frontend;
    return bad_input([&] {
      Model m(c, task, {});
      EXPECT_EQ(m.patch(), 2);
      EXPECT_EQ(m.config.l_max, 12);
      EXPECT_FALSE(m.streams().yes);
      EXPECT_EQ(m.make(Mode::evaluate, 2, 24)->net.T, 12);
    });
  };
  EXPECT_EQ(message("conv:5/2", real), "");
  EXPECT_NE(message("conv:5/2", tokens).find("needs a task with real-valued input"), std::string::npos);
  EXPECT_NE(message("conv:5", real).find("patch:N or conv:width/stride"), std::string::npos);
  EXPECT_NE(message("conv:2/3", real).find("leaves positions out"), std::string::npos);
  EXPECT_NE(message("conv:x/3", real).find("'x' is not a positive integer"), std::string::npos);
}

}  // namespace
}  // namespace ssm
