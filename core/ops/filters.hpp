// filters.hpp - what LongConv, Hyena and H3 compose beside ops.hpp: long kernels from their parameters, and streaming through them.
//
// A kernel has min(T, length) taps, or in a stream all of them, made once by prepare().
#pragma once
#include <string>
#include <vector>

#include "net.hpp"

namespace ssm {

// Kernels that are parameters: kernel (channels * directions, H, length) -> K (channels H, taps), or (2, channels H, taps).
//   s = mean of the 2 smooth + 1 taps around (zeros beyond the ends)      K = sign(s) max(|s| - squash, 0)
struct LongKernelOptions {
  Index channels = 1, directions = 1, length = 0;
  double squash = 0;
  int smooth = 0;
  Init init;
  Group group = {"kernel", 1, 5e-4, false};
};
Tensor long_kernel(Net& n, Index H, const std::string& name, const LongKernelOptions& options);

// The implicit filters of Hyena, `filters` kernels (d, taps) in order of use: with s_0 = z_t and sines of dense layers,
//   s_l = sin(freq * (W_l s_{l-1} + b_l)), l = 1..3      h_t = W s_3      K_t = h_t (e^{-t |delta|} + shift), and bias added to K_0
// Parameters pos_emb.z (1,l_max,emb), implicit_filter.{0,2,4}.{weight,bias}, .1.freq (1,width), .6.weight (filters d, width), bias
// (filters d); buffers pos_emb.t (1,l_max,1) and modulation.deltas (1,1,filters d).
struct HyenaFilterOptions {
  Index d = 1, filters = 1, emb = 5, width = 64;
  double freq = 1, shift = 0, lr_filter = 1e-3, lr_z = 1e-5;  // lr_z = 0: z is a buffer
  double fast = 0.3, slow = 1.5;                              // shares of l_max after which the windows are 1e-2: |delta| lies between
  bool window = true, decay = false;                          // decay: weight decay
};
std::vector<Tensor> hyena_filter(Net& n, const HyenaFilterOptions& options);

// Two other forms of kernels for Hyena's place, H rows each -> K (H, taps), none longer than l_max = L.
//   fourier:   <name> (H,modes,2)                            K_t = Re sum_m c_m e^{2 pi i m t / L}, m < modes
//   transfer:  <name>.numerator, <name>.denominator (H,size)   K_t = b_t - sum_k a_k K_{t-k}, k = 1..size: the impulse response of
//              (sum_k b_k z^-k) / (1 + sum_k a_k z^-k)
Tensor fourier_kernel(Net& n, Index H, const std::string& name, Index modes, const Group& group);
Tensor transfer_kernel(Net& n, Index H, const std::string& name, Index size, const Group& group);

// H3's shift register of N states as a kernel: K_i = sum_j C_{j+i} B_j, i < N.  <name>.B (d,N), <name>.C (1,d,N) -> K (d, taps)
Tensor shift_kernel(Net& n, Index d, Index N, const std::string& name);

// One position of a stream through K (H,L): y = sum_q K_q u_{t-q} + D u_t, u of T = 1. Carries the last L inputs: H L + 1 numbers.
Tensor conv_stream(Net& n, Tensor u, Tensor K, Param skip);
// fft_conv, or conv_stream where the net is a stream.   u (B,H,T) order BDT; view "direct", "library", else that of "fft"
Tensor long_conv(Net& n, Tensor u, Tensor K, Param skip, const std::string& view);

// (B,T,C) -> (B,size,T), order BDT, one per block of channels.
std::vector<Tensor> split_channels(Net& n, Tensor x, const std::vector<Index>& sizes);
// The same of causal_conv(x, width, name, "id"); x (B,T,C). product: the last two blocks, of one size, come as one tensor, multiplied.
std::vector<Tensor> causal_conv_channels(Net& n, Tensor x, int width, const std::string& name, const std::vector<Index>& sizes,
                                         bool product = false);
// (B,H,T) -> (B,count H,T), order BDT: block after block.
Tensor repeat_channels(Net& n, Tensor x, Index count);

// Heads of m channels, channel h m + i, order BDT. a, b (B,H m,T) -> (B m m, H, T): entry ((b,i,j),h,t) = a_{b,h m + i} b_{b,h m + j}
Tensor outer_heads(Net& n, Tensor a, Tensor b, Index m);
// q (B,H m,T), y (B m m, H, T) -> (B,H m,T): channel h m + j = sum_i q_{h m + i} y_{(i,j),h}
Tensor contract_heads(Net& n, Tensor q, Tensor y, Index m);

}  // namespace ssm
