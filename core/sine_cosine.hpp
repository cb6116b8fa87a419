// sine_cosine.hpp - sine and cosine of one angle together; branch-free on the host, so that loops become SIMD. Beyond the ranges below host and device
// part, and a host's values may leave [-1, 1].
#pragma once
#include <cmath>

#include "math.hpp"

namespace ssm {

template <class R>
struct SineCosine {
  R sine, cosine;
};

// From those of r, |r| <= pi/4, to those of r + quarter pi/2, quarter in -2..2.
template <class R>
SSM_FN SineCosine<R> turned(R s, R c, R quarter) {
  const R size = quarter < 0 ? -quarter : quarter, sine = size == 1 ? c : s, cosine = size == 1 ? s : c;
  const R back = quarter == -1 ? -sine : sine, down = quarter == 1 ? -cosine : cosine;
  return {size == 2 ? -sine : back, size == 2 ? -cosine : down};
}

// Absolute error 3e-16 for |x| < 1e5: x = k pi/2 + r, series in r, and the quarter k modulo 4.
SSM_FN SineCosine<double> sine_cosine(double x) {
#if SSM_DEVICE_CODE
  return {::sin(x), ::cos(x)};
#else
  constexpr double nearest = 6755399441055744.0;  // adding and taking it away rounds to an integer
  const double k = (x * 0.63661977236758134308 + nearest) - nearest, quarter = k - 4 * ((k * 0.25 + nearest) - nearest);
  const double r = (x - k * 1.57079632673412561417) - k * 6.07710050650619224932e-11, y = r * r;
  double s = 1.0 / 355687428096000, c = 1.0 / 20922789888000;
  s = s * y - 1.0 / 1307674368000;
  s = s * y + 1.0 / 6227020800;
  s = s * y - 1.0 / 39916800;
  s = s * y + 1.0 / 362880;
  s = s * y - 1.0 / 5040;
  s = s * y + 1.0 / 120;
  s = s * y - 1.0 / 6;
  s = s * y * r + r;
  c = c * y - 1.0 / 87178291200;
  c = c * y + 1.0 / 479001600;
  c = c * y - 1.0 / 3628800;
  c = c * y + 1.0 / 40320;
  c = c * y - 1.0 / 720;
  c = c * y + 1.0 / 24;
  c = c * y - 0.5;
  c = c * y + 1;
  return turned(s, c, quarter);
#endif
}
// Absolute error 1e-7 for |x| < 1e4.
SSM_FN SineCosine<float> sine_cosine(float x) {
#if SSM_DEVICE_CODE
  return {::sinf(x), ::cosf(x)};
#else
  constexpr float nearest = 12582912.0f;
  const float k = (x * 0.636619772f + nearest) - nearest, quarter = k - 4 * ((k * 0.25f + nearest) - nearest);
  const float r = ((x - k * 1.5703125f) - k * 4.83751296997e-4f) - k * 7.54978995489e-8f, y = r * r;
  float s = -1.9515295891e-4f, c = 2.4433157118e-5f;
  s = s * y + 8.3321608736e-3f;
  s = s * y - 1.6666654611e-1f;
  s = s * y * r + r;
  c = c * y - 1.3887316255e-3f;
  c = c * y + 4.1666645683e-2f;
  c = c * y - 0.5f;
  c = c * y + 1;
  return turned(s, c, quarter);
#endif
}

}  // namespace ssm
