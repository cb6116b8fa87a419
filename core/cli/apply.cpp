// apply.cpp - ssmbench apply IN OUT: one mixer on given weights and inputs, its outputs and gradients, through HDF5 files.
//
// IN   root attributes: variant; any of its knobs; l_max (default T), layer (0), depth (1)
//      /p/<name>     every parameter, named and shaped as `describe` prints them, without the place in the model; buffers may be left out
//      /in/x         (B,T,D)            /in/lengths (B), 1..T: valid positions      /in/state: as in OUT, the state before position 0
//      /dy           (B,T,D): gradient of the output, asks for gradients
// OUT  root attributes: variant and every knob      /y (B,T,D)      /state: what a stream carries after position T-1, in the build's own order
//      /g/<name>, /g/in/x: gradients of sum(dy y)
//
// Without a given state y is the parallel form; with one it is T steps of the recurrence. Arithmetic is that of the build.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>

#include "cli/command.hpp"
#include "error.hpp"
#include "exec.hpp"
#include "probe.hpp"
#include "record/tree.hpp"

namespace ssm {

namespace {

struct Request {
  Tree tree;
  std::string path, name;
  VariantKnobs knobs;
  Index B = 0, T = 0, D = 0, l_max = 0;
  int layer = 0, depth = 1;
  std::vector<double> x, dy;
  std::vector<std::int32_t> lengths;
  const Array* state = nullptr;
  bool gradients = false;

  explicit Request(const std::string& file) : tree(Tree::read(file)), path(file) {
    attributes();
    arrays();
  }
  [[noreturn]] void refuse(const std::string& what) const { throw BadInput(path + ": " + what); }

  static std::string text_of(const Attribute& value) {
    if (const auto* text = std::get_if<std::string>(&value)) return *text;
    if (const auto* real = std::get_if<double>(&value)) return number_text(*real);
    if (const auto* yes = std::get_if<bool>(&value)) return *yes ? "true" : "false";
    return std::to_string(std::get<std::int64_t>(value));
  }

  void attributes() {
    const Attributes& root = tree.groups().at("/");
    const auto variant = root.find("variant");
    if (variant == root.end() || !std::holds_alternative<std::string>(variant->second))
      refuse("no root attribute 'variant', so this is no input of apply; it names one of " + join(VariantRegistry::get().names()));
    name = std::get<std::string>(variant->second);
    const auto integer = [&](const char* key, std::int64_t fallback, std::int64_t least) {
      const Attribute* given = tree.find("/", key);
      if (!given) return fallback;
      const auto* value = std::get_if<std::int64_t>(given);
      if (!value || *value < least || *value > 1 << 30)
        refuse("root attribute '" + std::string(key) + "' = " + text_of(*given) + "; allowed is an integer in [" + std::to_string(least) +
               ", 1073741824]");
      return *value;
    };
    l_max = integer("l_max", 0, 1);
    layer = static_cast<int>(integer("layer", 0, 0));
    depth = static_cast<int>(integer("depth", 1, 1));
    if (layer >= depth) depth = layer + 1;
    for (const auto& [key, value] : root)
      if (key != "variant" && key != "l_max" && key != "layer" && key != "depth") knobs[name][key] = text_of(value);
  }

  std::vector<double> numbers(const std::string& at, const std::vector<Index>& shape) const {
    const Array& array = tree.at(at);
    if (array.shape != shape) refuse("array '" + at + "' has shape " + shape_text(array.shape) + ", expected " + shape_text(shape));
    return tree.numbers(at);
  }

  void arrays() {
    for (const auto& [at, array] : tree.arrays()) {
      if (at == "/in/dt")
        refuse("array '/in/dt': no variant takes a time step per position yet; allowed below /in are x, lengths and state");
      if (at.rfind("/p/", 0) != 0 && at != "/in/x" && at != "/in/lengths" && at != "/in/state" && at != "/dy")
        refuse("array '" + at + "' is not read; allowed are /p/<parameter>, /in/x, /in/lengths, /in/state, /dy");
    }
    const std::vector<Index>& shape = tree.at("/in/x").shape;
    if (shape.size() != 3 || Array::elements(shape) < 1)
      refuse("array '/in/x' has shape " + shape_text(shape) + ", expected (B, T, D), each 1 or more");
    B = shape[0], T = shape[1], D = shape[2];
    x = tree.numbers("/in/x");
    if (l_max == 0) l_max = T;
    if (l_max < T)
      refuse("root attribute 'l_max' = " + std::to_string(l_max) + " is less than the " + std::to_string(T) + " positions of /in/x");
    if (tree.find("/in/lengths"))
      for (const double length : numbers("/in/lengths", {B})) {
        if (!(length >= 1 && length <= static_cast<double>(T)) || std::floor(length) != length)
          refuse("array '/in/lengths' holds " + number_text(length) + "; allowed are integers in [1, " + std::to_string(T) + "]");
        lengths.push_back(static_cast<std::int32_t>(length));
      }
    gradients = tree.find("/dy") != nullptr;
    if (gradients) dy = numbers("/dy", shape);
    state = tree.find("/in/state");
    if (state && gradients) refuse("array '/in/state' with '/dy': gradients start from a zero state; leave one of the two out");
  }

  // A mixer's op list asks for its shape alone: the parallel form, or one position of a stream.
  ProbeSpec spec(Variant& variant, Mode mode) const {
    ProbeSpec s;
    s.B = B, s.D = D, s.l_max = l_max, s.mode = mode;
    s.T = mode == Mode::stream ? 1 : T;
    if (mode != Mode::stream) s.lengths = lengths;
    s.inputs = {shaped({B, s.T, D})};
    s.build = [&variant](Net& n, const std::vector<Tensor>& in) { return variant.build(n, in[0]); };
    return s;
  }

  // All or an exception that names the first parameter that is missing, unknown or of another shape.
  void give(Params& params) const {
    std::vector<std::string> names;
    for (const ParamInfo& p : params.all()) names.push_back(p.name);
    for (const auto& [at, array] : tree.arrays())
      if (at.rfind("/p/", 0) == 0 && !params.find(at.substr(3))) unknown("parameter of " + name + " in " + path, at.substr(3), names);
    for (const ParamInfo& p : params.all()) {
      const std::string at = "/p/" + p.name;
      if (!tree.find(at) && !p.trained) continue;
      if (!tree.find(at)) refuse("parameter '" + p.name + "' " + shape_text(p.shape) + " is missing; " + name + " has " + join(names));
      params.set(p.name, numbers(at, p.shape));
    }
  }
};

// The memory of everything a stream carries, in the order in which its ops declared it.
struct Carried {
  Real* p;
  Index count;
  explicit Carried(const Net& n) : p(n.ops().front()->v(State{0, 0})), count(n.bytes().state / static_cast<Index>(sizeof(Real))) {}
};

// T steps from the given state or from zero; returns y and writes /state.
std::vector<double> stream(const Request& q, Probe& probe, Tree& out) {
  probe.prepare();
  probe.reset();
  const Carried carried(probe.net());
  const Index bytes = carried.count * static_cast<Index>(sizeof(Real));
  if (q.state) {
    const std::vector<double> given = q.numbers("/in/state", {carried.count});
    const std::vector<Real> raw(given.begin(), given.end());
    copy_in(carried.p, raw.data(), bytes);
  }
  std::vector<double> y(q.x.size()), now(static_cast<std::size_t>(q.B * q.D));
  for (Index t = 0; t < q.T; ++t) {
    const auto place = [&](Index b) { return static_cast<long>((b * q.T + t) * q.D); };
    for (Index b = 0; b < q.B; ++b) std::copy_n(q.x.begin() + place(b), q.D, now.begin() + b * q.D);
    const std::vector<double> after = probe.step({now});
    for (Index b = 0; b < q.B; ++b) std::copy_n(after.begin() + b * q.D, q.D, y.begin() + place(b));
  }
  std::vector<Real> raw(static_cast<std::size_t>(carried.count));
  copy_out(raw.data(), carried.p, bytes);
  out.put("/state", Array(std::move(raw)));
  return y;
}

void put(Tree& out, const std::string& at, const std::vector<Index>& shape, const std::vector<double>& values) {
  const std::vector<Real> raw(values.begin(), values.end());
  out.put(at, Array(shape, raw.data()));
}

int apply(const Arguments& arguments) {
  const std::string from = arguments.text("input"), to = arguments.text("output");
  if (from.empty() || to.empty()) throw BadInput("apply needs two files: ssmbench apply IN.h5 OUT.h5");
  std::error_code missing;
  if (std::filesystem::equivalent(to, from, missing)) throw BadInput(to + ": the output would replace the input");
  const Request q(from);
  const auto variant = make_variant(q.name, q.knobs);
  variant->layer = q.layer, variant->depth = q.depth;
  const Answer streams = variant->causal().yes ? variant->streams() : variant->causal();
  if (q.state && !streams.yes) q.refuse("array '/in/state': " + q.name + " carries no state: " + streams.reason);

  Device device;
  Probe whole(device.exec(), q.spec(*variant, q.gradients ? Mode::train : Mode::evaluate));
  q.give(whole.params());
  Tree out;
  out.set("/", "variant", q.name);
  Knobs knobs;
  variant->knobs(knobs);
  for (const Knob& k : knobs.all()) out.set("/", k.name, k.get());
  std::vector<double> y;
  if (streams.yes) {
    Probe one(device.exec(), q.spec(*variant, Mode::stream), whole.shared());
    y = stream(q, one, out);
  }
  if (!q.state) {
    whole.prepare();
    y = whole.forward({q.x});
  }
  const std::vector<Index> shape = {q.B, q.T, q.D};
  put(out, "/y", shape, y);
  if (q.gradients) {
    put(out, "/g/in/x", shape, whole.backward(q.dy).front());
    for (const ParamInfo& p : whole.params().all())
      if (p.trained) put(out, "/g/" + p.name, p.shape, whole.params().get_grad(p.name));
  }
  out.write(to);
  return 0;
}

void options(boost::program_options::options_description& o) {
  namespace po = boost::program_options;
  o.add_options()("input", po::value<std::string>(), "HDF5: root attribute variant and knobs, /p/<parameter>, /in/x, /dy");
  o.add_options()("output", po::value<std::string>(), "HDF5: /y, /state, /g/<parameter>, /g/in/x");
}

}  // namespace

static const RegisterCommand registered(
    {"apply", "one mixer on given weights and inputs: outputs, state and gradients", options, {"input", "output"}, apply, false});

}  // namespace ssm
