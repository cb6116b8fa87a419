#include "model.hpp"

#include <algorithm>
#include <charconv>

#include "error.hpp"
#include "ops/gaps.hpp"
#include "ops/strided_conv.hpp"
#include "starts.hpp"

namespace ssm {

constexpr std::size_t kMaxDepth = 256;

void ModelConfig::knobs(Knobs& k) {
  k("layers", layers, {}).any_text().note("pattern of variants, e.g. mamba*3,attention; empty: variant * depth");
  k("variant", variant, {}).any_text().note("the mixer of every layer");
  k("depth", depth, {2, 4, 6}).range(1, kMaxDepth).note("number of layers");
  k("d_model", d_model, {32, 64, 128, 256}).range(1, 65536).note("model width D");
  k("l_max", l_max).range(0, 1 << 24).note("longest sequence parameters are made for; 0: the task's longest");
  k("norm", norm, {"auto", "layer", "rms", "batch", "none"}).note("norm of the residual blocks; auto: the variant's");
  k("place", place, {"auto", "pre", "post"}).note("norm before the mixer or after the residual sum");
  k("mlp", mlp, {0, 2, 4}).range(-1, 64).note("MLP width over D after each mixer; -1: the variant's, 0: none");
  k("mlp_activation", mlp_activation, {"gelu", "gelu_tanh", "silu", "relu"}).note("activation of the MLP");
  k("dropout", dropout, {0, 0.1, 0.2}).range(0, 0.95).note("dropout after every mixer and MLP");
  k("tie_dropout", tie_dropout).note("one dropout mask per sequence and channel, the same at all t");
  k("pooling", pooling, {"auto", "mean", "last", "first"}).note("how positions become one vector; auto: the task's");
  k("mask", mask, {"pool-only", "full"}).note("where padding is masked; pool-only is the published behaviour");
  k("frontend", frontend, {"none"})
      .any_text()
      .note("of a real-valued input: patch:N joins N positions into one, conv:width/stride takes every stride-th of a causal convolution");
  k("bidirectional", bidirectional, {"no", "sum", "concat"}).note("a second mixer on the reversed sequence");
  k("gaps", gaps, {"even", "given"}).note("time between positions: all alike, or the task's, over their mean (s4d, s5, mamba; pendulum)");
  k("reset_token", reset_token)
      .range(-1, 1 << 24)
      .note("token that starts a sequence inside a row: state, convolution windows and attention do not look back across it; -1: none");
  k("embed_deviation", embed_deviation, {0.02, 1}).range(0, 100).note("standard deviation of the token embedding");
}

namespace {

int positive(const std::string& text, const std::string& what) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1)
    throw BadInput(what + ": '" + text + "' is not a positive integer");
  return value;
}

// A knob "x_min" is at most its "x_max".
void check_ranges(const std::string& variant, Knobs& knobs) {
  for (const Knob& low : knobs.all()) {
    if (low.name.size() < 5 || low.name.compare(low.name.size() - 4, 4, "_min") != 0) continue;
    const Knob* high = knobs.find(low.name.substr(0, low.name.size() - 4) + "_max");
    if (high && std::stod(low.get()) > std::stod(high->get()))
      throw BadInput(variant + "." + low.name + " = " + low.get() + " is above " + variant + "." + high->name + " = " + high->get());
  }
}

}  // namespace

std::vector<std::string> parse_layers(const std::string& pattern) {
  std::vector<std::string> out;
  for (std::size_t from = 0; from <= pattern.size();) {
    const std::size_t comma = std::min(pattern.find(',', from), pattern.size());
    std::string piece = pattern.substr(from, comma - from);
    int times = 1;
    if (const std::size_t star = piece.find('*'); star != std::string::npos) {
      times = positive(piece.substr(star + 1), "model.layers, '" + piece + "'");
      piece.resize(star);
    }
    if (!VariantRegistry::get().has(piece)) unknown("variant in model.layers", piece, VariantRegistry::get().names());
    if (out.size() + static_cast<std::size_t>(times) > kMaxDepth)
      throw BadInput("model.layers = '" + pattern + "': more than " + std::to_string(kMaxDepth) + " layers");
    out.insert(out.end(), static_cast<std::size_t>(times), piece);
    from = comma + 1;
  }
  return out;
}

std::unique_ptr<Variant> make_variant(const std::string& name, const VariantKnobs& all) {
  auto variant = VariantRegistry::get().make(name, "variant");
  Knobs knobs;
  variant->knobs(knobs);
  if (const auto found = all.find(name); found != all.end())
    for (const auto& [key, text] : found->second) {
      Knob* knob = knobs.find(key);
      if (!knob) {
        std::vector<std::string> names;
        for (const Knob& k : knobs.all()) names.push_back(name + "." + k.name);
        unknown("knob", name + "." + key, names);
      }
      knob->set(text, name + "." + key);
    }
  check_ranges(name, knobs);
  return variant;
}

Model::Model(const ModelConfig& c, const TaskInfo& task, const VariantKnobs& knobs) : config(c), info(task) {
  if (config.layers.empty()) {
    if (!VariantRegistry::get().has(config.variant)) unknown("variant", config.variant, VariantRegistry::get().names());
    layers.assign(static_cast<std::size_t>(config.depth), config.variant);
  } else {
    layers = parse_layers(config.layers);
  }
  if (config.pooling == "auto") config.pooling = info.pooling;
  if (config.frontend != "none") read_frontend();
  if (config.l_max == 0) config.l_max = static_cast<int>((info.max_length + patch_ - 1) / patch_);
  for (std::size_t i = 0; i < layers.size(); ++i)
    for (auto* list : {&variants_, &reverse_}) {
      if (list == &reverse_ && config.bidirectional == "no") continue;
      auto variant = make_variant(layers[i], knobs);
      variant->layer = static_cast<int>(i);
      variant->depth = static_cast<int>(layers.size());
      list->push_back(std::move(variant));
    }
  check_gaps();
  check_resets();
}

void Model::read_frontend() {
  const std::string& text = config.frontend;
  const bool patch = text.rfind("patch:", 0) == 0, conv = text.rfind("conv:", 0) == 0;
  const std::size_t cut = text.find('/');
  if (!patch && (!conv || cut == std::string::npos))
    throw BadInput("model.frontend = '" + text + "': allowed is none, patch:N or conv:width/stride");
  if (info.features == 0) throw BadInput("model.frontend = '" + text + "' needs a task with real-valued input; this one has tokens");
  patch_ = positive(text.substr(patch ? 6 : cut + 1), "model.frontend");
  if (!conv) return;
  window_ = positive(text.substr(5, cut - 5), "model.frontend");
  if (window_ < patch_) throw BadInput("model.frontend = '" + text + "': a stride beyond the width leaves positions out");
}

void Model::check_gaps() const {
  if (config.gaps == "even") return;
  const std::string given = "model.gaps = given: ";
  if (info.time_feature < 0) throw BadInput(given + "this task gives no times between positions; allowed is even");
  if (config.frontend != "none") throw BadInput(given + "model.frontend = " + config.frontend + " joins positions; allowed is none");
  if (config.bidirectional != "no")
    throw BadInput(given + "model.bidirectional = " + config.bidirectional + " reads the times backwards; allowed is no");
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (const Answer a = variants_[i]->takes_gaps(); !a.yes) throw BadInput(given + layers[i] + ": " + a.reason);
}

void Model::check_resets() const {
  if (config.reset_token < 0) return;
  const std::string given = "model.reset_token = " + std::to_string(config.reset_token) + ": ";
  if (info.features > 0) throw BadInput(given + "the input of this task is real numbers, not tokens; allowed is -1");
  if (config.reset_token >= info.vocab) throw BadInput(given + "the tokens of this task are 0 to " + std::to_string(info.vocab - 1));
  if (config.bidirectional != "no")
    throw BadInput(given + "model.bidirectional = " + config.bidirectional + " reads the row backwards; allowed is no");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto* keeps = dynamic_cast<const KeepsApart*>(variants_[i].get());
    const Answer a = keeps ? keeps->keeps_apart() : Answer::no("it has one kernel for a whole row, whatever sequences that holds");
    if (!a.yes) throw BadInput(given + layers[i] + ": " + a.reason);
  }
}

Answer Model::causal() const {
  if (config.bidirectional != "no") return Answer::no("model.bidirectional = " + config.bidirectional);
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (const Answer a = variants_[i]->causal(); !a.yes) return Answer::no(layers[i] + ": " + a.reason);
  return {};
}

Answer Model::streams() const {
  if (const Answer a = causal(); !a.yes) return a;
  if (info.target == Target::pairs) return Answer::no("a pair of sequences is not a stream");
  if (config.reset_token >= 0)
    return Answer::no("model.reset_token = " + std::to_string(config.reset_token) + ": a stream is one sequence");
  if (info.from_one_vector) return Answer::no("all labels are read after the last position");
  if (patch_ > 1 || window_ > 1) return Answer::no("model.frontend = " + config.frontend + " joins positions");
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (const Answer a = variants_[i]->streams(); !a.yes) return Answer::no(layers[i] + ": " + a.reason);
  return {};
}

Tensor Model::mix(Net& n, Tensor x, std::size_t i) {
  const auto one_way = [&](Variant& variant, const char* name, Tensor input) {
    const auto scope = n.scope(name);
    return variant.build(n, input);
  };
  if (config.bidirectional == "no") return one_way(*variants_[i], "mixer", x);
  Tensor forward = one_way(*variants_[i], "mixer", x);
  Tensor backward = reverse(n, one_way(*reverse_[i], "mixer_reverse", reverse(n, x)));
  if (config.bidirectional == "concat") {
    const auto no_bias = [] {
      LinearOptions o;
      o.bias = false;
      return o;
    }();
    forward = linear(n, forward, n.D, "join_forward", no_bias);
    backward = linear(n, backward, n.D, "join_reverse");
  }
  return add(n, forward, backward);
}

Tensor Model::residual(Net& n, Tensor x, const std::string& norm_kind, const std::string& place, const std::string& norm_name,
                       const std::function<Tensor(Tensor)>& f) {
  Tensor h = place == "pre" ? norm(n, x, norm_kind, norm_name) : x;
  h = f(h);
  x = config.dropout > 0 ? add(n, x, dropout(n, h, config.dropout, config.tie_dropout)) : residual_add(n, x, h);
  if (place == "post") x = norm(n, x, norm_kind, norm_name);
  return config.mask == "full" ? mask_padding(n, x) : x;
}

Tensor Model::block(Net& n, Tensor x, std::size_t i) {
  const auto scope = n.scope("layers." + std::to_string(i));
  const Block defaults = variants_[i]->block();
  const std::string norm_kind = config.norm == "auto" ? defaults.norm : config.norm;
  const std::string place = config.place == "auto" ? defaults.place : config.place;
  const double mlp = config.mlp < 0 ? defaults.mlp : config.mlp;
  x = residual(n, x, norm_kind, place, "norm", [&](Tensor h) { return mix(n, h, i); });
  if (mlp <= 0) return x;
  return residual(n, x, norm_kind, place, "mlp_norm", [&](Tensor h) {
    h = linear(n, h, static_cast<Index>(mlp * static_cast<double>(n.D)), "mlp.fc1");
    const std::size_t first = n.ops().size();
    h = linear(n, activation(n, h, config.mlp_activation), n.D, "mlp.fc2");
    if (recompute == "mlp") n.recompute_since(first);
    return h;
  });
}

Tensor Model::build(Net& n) {
  Tensor x = info.features == 0 ? embedding(n, info.vocab, n.D, "embed", config.embed_deviation)
             : window_          ? strided_conv(n, window_, patch_, info.features, n.D, "embed")
                                : patch_embedding(n, patch_, info.features, n.D, "embed");
  const Tensor gaps = config.gaps == "given" ? time_gaps(n, info.features, info.time_feature, info.mean_gap) : Tensor{};
  const Tensor starts = config.reset_token < 0 ? Tensor{} : sequence_starts(n, config.reset_token);
  for (const auto& variant : variants_) {
    variant->gaps = gaps;
    if (auto* keeps = dynamic_cast<KeepsApart*>(variant.get())) keeps->starts = starts;
  }
  bool pre = false;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::size_t first = n.ops().size();
    x = block(n, x, i);
    const bool last_layer = i + 1 == layers.size();  // its activations are read at once: dropping them would gain nothing
    if (recompute == "block" && !last_layer) n.recompute_since(first);
    pre |= (config.place == "auto" ? variants_[i]->block().place : config.place) == "pre";
  }
  const std::string last = config.norm == "auto" ? variants_.back()->block().norm : config.norm;
  if (pre) x = norm(n, x, last, "norm");
  const bool along = info.target == Target::positions || info.target == Target::series;
  if (along && !info.from_one_vector) return linear(n, x, info.classes, "head");
  x = pool(n, x, config.pooling);
  if (along) {
    if (n.T != n.l_max)
      throw BadInput("this task's decoder has model.l_max = " + std::to_string(n.l_max) + " outputs; allowed length is that");
    Tensor y = linear(n, activation(n, linear(n, x, n.D, "head.fc1"), "gelu"), n.T * info.classes, "head.fc2");
    y.rank = 3, y.n[1] = n.T, y.n[2] = info.classes;
    return y;
  }
  if (info.target != Target::pairs) return linear(n, x, info.classes, "head");
  x = activation(n, linear(n, join_pairs(n, x), n.D, "head.fc1"), "gelu");
  return linear(n, x, info.classes, "head.fc2");
}

ModelNet::ModelNet(Model& m, Mode mode, Index B, Index length)
    : examples(B),
      rows(m.info.target == Target::pairs ? 2 * B : B),
      T(length),
      net(m.params, mode, rows, (length + m.patch() - 1) / m.patch(), m.config.d_model, m.config.l_max),
      patch_(m.patch()) {
  if (m.patch() > 1 && length % m.patch())
    throw BadInput("model.frontend = " + m.config.frontend + ": the length " + std::to_string(length) + " is no multiple");
  logits = m.build(net);
  const bool series = m.info.target == Target::series, real = series || m.info.target == Target::regression;
  loss = real ? mean_squared_error(net, logits) : cross_entropy(net, logits);
  net.plan();
  const Index labels = series || m.info.target == Target::positions ? rows * T : examples;
  counts_[0] = m.info.features ? 0 : rows * T * Index{4};
  counts_[1] = rows * T * m.info.features * static_cast<Index>(sizeof(Real));
  counts_[2] = rows * Index{4};
  counts_[3] = real ? 0 : labels * Index{4};
  counts_[4] = real ? labels * m.info.classes * static_cast<Index>(sizeof(Real)) : 0;
  for (const Index c : counts_) wanted_slot_bytes_ += (c + 255) / 256 * 256;
}

void ModelNet::allocate() {
  net.allocate();
  slots_ = Memory("ssm::batch", wanted_slot_bytes_);
  staging_ = Staging(wanted_slot_bytes_);
  char* at = slots_.as<char>();
  const auto take = [&](Index bytes) {
    char* p = bytes ? at : nullptr;
    at += (bytes + 255) / 256 * 256;
    return p;
  };
  net.batch.tokens = reinterpret_cast<std::int32_t*>(take(counts_[0]));
  net.batch.features = reinterpret_cast<Real*>(take(counts_[1]));
  net.batch.lengths = reinterpret_cast<std::int32_t*>(take(counts_[2]));
  net.batch.targets = reinterpret_cast<std::int32_t*>(take(counts_[3]));
  net.batch.values = reinterpret_cast<Real*>(take(counts_[4]));
}

void ModelNet::load(const Run& r, const HostBatch& batch) {
  if (batch.rows != rows || batch.T != T) throw std::logic_error("a batch of another shape was loaded");
  char* to = staging_.next(slots_.as<void>());
  const auto put = [&](const auto& host, auto number, Index bytes) {
    using Number = decltype(number);
    std::transform(host.begin(), host.begin() + bytes / static_cast<Index>(sizeof(Number)), reinterpret_cast<Number*>(to),
                   [](auto x) { return static_cast<Number>(x); });
    to += (bytes + 255) / 256 * 256;
  };
  put(batch.tokens, std::int32_t{}, counts_[0]);
  put(batch.features, Real{}, counts_[1]);
  auto* lengths = reinterpret_cast<std::int32_t*>(to);
  put(batch.lengths, std::int32_t{}, counts_[2]);
  for (Index i = 0; i < rows; ++i) lengths[i] = static_cast<std::int32_t>((lengths[i] + patch_ - 1) / patch_);
  put(batch.targets, std::int32_t{}, counts_[3]);
  put(batch.values, Real{}, counts_[4]);
  staging_.send(r.exec, slots_.as<void>());
}

}  // namespace ssm
