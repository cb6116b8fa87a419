// ops.hpp - what variants compose. Each function adds one op (or a few) to the net and returns its output.
//
// Sequence tensors are (B,T,D) unless said. Parameters are declared under the scope of the net as <name>.weight, <name>.bias.
#pragma once
#include <string>
#include <vector>

#include "net.hpp"

namespace ssm {

// --- dense ---
struct LinearOptions {
  bool bias = true;
  Init weight = {};  // default: torch's U(-1/sqrt(in), 1/sqrt(in)) for weight and bias
  Init bias_init = {};
  Group group = {};
  Order order = Order::BTD;  // order of the output: (B,T,out), or (B,out,T) written directly by the GEMM
};
// y = x W^T + b      x (..., in), W (out, in). x of order BDT is read in place.
Tensor linear(Net& n, Tensor x, Index out, const std::string& name, const LinearOptions& options = {});
// One weight (sum of sizes, in) without bias, one output (..., size) per block of its rows: no copies for a slice.
std::vector<Tensor> linear_split(Net& n, Tensor x, const std::vector<Index>& sizes, const std::string& name, LinearOptions options = {});

// y_t = table[token_t]      table (vocab, D) N(0, deviation^2); reads net.batch.tokens
Tensor embedding(Net& n, Index vocab, Index d, const std::string& name, double deviation = 1);
// Non-overlapping patches: features (B, T*size, F) of the batch -> linear -> (B, T, D); the patch front end.
Tensor patch_embedding(Net& n, Index size, Index features, Index d, const std::string& name);
// Adds a learned table row per position: table (l_max, D) N(0, 0.02^2).
Tensor add_positions(Net& n, Tensor x, const std::string& name);
// Adds fixed sinusoids: sin on even, cos on odd columns, angle t 10000^{-2 floor(d/2)/D}.
Tensor add_sinusoids(Net& n, Tensor x);

// --- norms over the last extent (layer, rms) or over B and T (batch) ---
Tensor layer_norm(Net& n, Tensor x, const std::string& name, double eps = 1e-5);
Tensor rms_norm(Net& n, Tensor x, const std::string& name, double eps = 1e-5);
// Train: batch statistics, running <- running + momentum (batch - running) in advance(), unbiased variance; else running statistics.
Tensor batch_norm(Net& n, Tensor x, const std::string& name, double momentum = 0.1, double eps = 1e-5);
// "layer", "rms", "batch", "none"
Tensor norm(Net& n, Tensor x, const std::string& kind, const std::string& name);

// --- elementwise, any order ---
// "gelu" (erf), "gelu_tanh", "silu", "relu", "tanh", "sigmoid", "elu1" (elu(x) + 1), "id"
Tensor activation(Net& n, Tensor x, const std::string& kind);
Tensor glu(Net& n, Tensor x);                     // (.., 2D) -> (.., D): first half * sigmoid(second half)
Tensor silu_gate(Net& n, Tensor y, Tensor z);     // y * silu(z)
Tensor sigmoid_gate(Net& n, Tensor y, Tensor z);  // y * sigmoid(z)
Tensor multiply(Net& n, Tensor a, Tensor b);
Tensor add(Net& n, Tensor a, Tensor b);
// x + h, added by the op that made h where that is the last one and can: h is used up, nothing else may read it, before or after.
Tensor residual_add(Net& n, Tensor x, Tensor h);
// Inverted dropout in train mode; tied: one mask per (batch, channel), the same at all t.
Tensor dropout(Net& n, Tensor x, double p, bool tied);
Tensor transpose(Net& n, Tensor x);     // BTD <-> BDT
Tensor reverse(Net& n, Tensor x);       // each sequence backwards within its length
Tensor mask_padding(Net& n, Tensor x);  // zeroes t >= length
// Columns [first, first + count) of the last extent.
Tensor slice(Net& n, Tensor x, Index first, Index count);

// --- sequence mixing ---
// Depthwise causal convolution of width w with bias, then activation "silu" or "id": weight (D,1,w), bias (D). Step keeps w-1 inputs.
Tensor causal_conv(Net& n, Tensor x, int width, const std::string& name, const std::string& act);
// Dense dilated convolution: weight (out,in,taps) [weight-normed: weight_v, weight_g], bias (out).
struct DilatedConvOptions {
  int taps = 3, dilation = 1;
  bool causal = true;  // else centred
  bool weight_norm = false;
  bool affine = true;  // false, before a batch norm: no bias, and weight_g is a buffer
};
Tensor dilated_conv(Net& n, Tensor x, Index out, const std::string& name, const DilatedConvOptions& options);
// y = K * u + D u per channel.   u, y (B,H,T) order BDT; K (H, taps) a tensor, taps <= T causal; with two-sided K (2,H,T): the second
// kernel acts on the reversed sequence starting at the next sample (variants.md 1.4). skip: parameter (H) or id -1.
Tensor fft_conv(Net& n, Tensor u, Tensor K, Param skip, const std::string& view);

// Causal or full softmax attention without a (T,T) tensor.  qkv (B,T,(heads+2 kv_heads) dh) -> (B,T,heads dh). Full: keys of padding are
// hidden. A dropout other than 0 throws Unsupported.
struct AttentionOptions {
  int heads = 4, kv_heads = 4;
  bool causal = true;
  std::string positions = "none";  // "none", "rope", "alibi"
  int window = 0;                  // 0: unlimited
  double dropout = 0;
  std::string view = "tiled";  // "tiled" or "plain"
};
Tensor attention(Net& n, Tensor qkv, const AttentionOptions& options);

// The recurrence of S6: delta = softplus(raw + bias), h_t = exp(delta A) h_{t-1} + delta u B_t, y_t = h_t . C_t + D u_t, A = -exp(A_log).
struct SelectiveScanInputs {
  Tensor u;    // (B,T,E)
  Tensor raw;  // (B,T,E); absent (id -1): delta = softplus(bias), the same at all t
  Tensor low;  // (B,1,R), of a stream: raw = low to_raw^T, to_raw (E,R)
  Param to_raw;
  Tensor B, C;  // (B,T,N), shared by all channels; absent: parameters "B", "C" (E,N)
  Tensor z;     // (B,T,E): the output is y silu(z); absent: y
};
struct SelectiveScanOptions {
  Index d_state = 16;
  std::string bias_name = "dt_proj.bias";  // (E)
  Init A_log_init, bias_init, B_init, C_init;
};
// Parameters A_log (E,N), D (E) and the bias; none of them decays. Step carries E*N numbers.
Tensor selective_scan(Net& n, const SelectiveScanInputs& inputs, const SelectiveScanOptions& options);

// --- matrix states: linear attention and its kin ---
// S_t = diag(e^{gate_t}) S_{t-1} + delta_t k_t v_t^T,   y_t = scale S_t^T q_t [/ (scale sum_{s<=t} q_t.k_s + 1e-10)] + D v_t   per head
struct MatrixStateInputs {
  Tensor q, k;   // (B,T,groups K), shared by the heads of a group
  Tensor v;      // (B,T,heads V)
  Tensor gate;   // logs, <= 0: (B,T,heads), or (B,T,heads K) where groups = heads; absent (id -1): decay_first decides
  Tensor delta;  // (B,T,heads); absent: 1
};
struct MatrixStateOptions {
  Index heads = 1, groups = 0;  // groups 0: heads
  double scale = 1;
  double decay_first = 0, decay_step = 0;  // without a gate, head h decays by 1 - 2^-(first + step h); first 0: not at all
  bool normalise = false, skip = false;    // skip: parameter D (heads)
  std::string view = "chunked";            // or "scan"
};
Tensor matrix_state(Net& n, const MatrixStateInputs& inputs, const MatrixStateOptions& options);
// log(sigmoid(x)) / normaliser, not below lowest where lowest < 0: a gate of matrix_state.
Tensor log_sigmoid(Net& n, Tensor x, double normaliser, double lowest = 0);
// delta = softplus(raw + dt_bias), cut to [delta_lowest, delta_highest]; gate = -e^{A_log} delta.   raw, delta, gate (B,T,heads)
struct DecayGate {
  Tensor delta, gate;  // delta: only where asked for
};
struct DecayGateOptions {
  bool with_delta = true;
  double delta_lowest = 0, delta_highest = 1e30;
  double A_low = 1, A_high = 16;        // at the start A = e^{A_log} is uniform between them
  double dt_low = 1e-3, dt_high = 0.1;  // and softplus(dt_bias) log-uniform, at least 1e-4
};
DecayGate decay_gate(Net& n, Tensor raw, const DecayGateOptions& options);
// The delta rule: S_t = e^{gate_t} (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,   y_t = scale S_t^T q_t   per head.
// q, k (B,T,heads K)   v (B,T,heads V)   beta (B,T,heads)   gate (B,T,heads) logs, <= 0; absent (id -1): 0.  |k| must not exceed sqrt(2 / beta).
struct DeltaRuleInputs {
  Tensor q, k, v, beta, gate;
};
Tensor delta_rule(Net& n, const DeltaRuleInputs& inputs, Index heads, double scale, const std::string& view);
// x / sqrt(sum x^2 + 1e-6) over the channels of each head.
Tensor unit_heads(Net& n, Tensor x, Index heads);
// Rotates pairs of channels of every head by t 10000^{-2i/K}: pairs (i, i + K/2), or (2i, 2i+1) with angles t 10000^{-i/(K/2-1)}.
Tensor rotary(Net& n, Tensor x, Index heads, bool interleaved);
// RMS norm over the channels of each head: weight (last / heads).
Tensor head_norm(Net& n, Tensor x, Index heads, const std::string& name, double eps = 1e-5);

// --- heads ---
// (B,T,D) -> (B,D) by "mean", "last" or "first" valid position (lengths of the batch; "mean_full", "last_full" take all T).
Tensor pool(Net& n, Tensor x, const std::string& kind);
// rows 2i and 2i+1 of (2B,D) -> (B,4D): [u, v, u-v, u*v]
Tensor join_pairs(Net& n, Tensor x);

// --- losses: sums, not means; the optimiser divides once by the number of labels. Predictions stay readable. ---
struct Loss {
  Tensor loss;        // (rows) loss of each label, 0 where ignored
  Tensor prediction;  // (rows) argmax, or the (rows) squared error of a regression
};
Loss cross_entropy(Net& n, Tensor logits);  // targets of the batch, -1 ignored
Loss mean_squared_error(Net& n, Tensor y);  // values of the batch

// --- on raw memory ---
void copy(const Run& r, const Real* from, Grad to, Index count);  // sets or adds
void fill(const Run& r, Real* p, Index count, Real value);

}  // namespace ssm
