#include "knobs.hpp"

#include <charconv>
#include <cmath>

#include "error.hpp"

namespace ssm {

std::string number_text(double value) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, end.ptr};
}

namespace {

template <class T>
bool parse(const std::string& text, T& out) {
  const char* first = text.data();
  const char* last = first + text.size();
  const auto [end, error] = std::from_chars(first, last, out);
  return error == std::errc() && end == last;
}

}  // namespace

std::string Knob::get() const {
  switch (kind) {
    case Kind::integer:
      return std::to_string(*static_cast<int*>(target));
    case Kind::real:
      return number_text(*static_cast<double*>(target));
    case Kind::boolean:
      return *static_cast<bool*>(target) ? "true" : "false";
    case Kind::text:
      return *static_cast<std::string*>(target);
  }
  return {};
}

std::string Knob::allowed() const {
  if (kind == Kind::boolean) return "true or false";
  if (kind == Kind::text) return open_text ? "any text" : "one of " + join(values);
  const std::string what = kind == Kind::integer ? "an integer" : "a number";
  if (std::isinf(lo) && std::isinf(hi)) return what;
  return what + " in [" + number_text(lo) + ", " + number_text(hi) + "]";
}

void Knob::set(const std::string& text, const std::string& full_name) {
  const auto refuse = [&](const std::string& extra = "") {
    throw BadInput(full_name + " = '" + text + "': allowed is " + allowed() + extra);
  };
  switch (kind) {
    case Kind::integer: {
      int v = 0;
      if (!parse(text, v) || v < lo || v > hi) refuse();
      *static_cast<int*>(target) = v;
      break;
    }
    case Kind::real: {
      double v = 0;
      if (!parse(text, v) || !std::isfinite(v) || v < lo || v > hi) refuse();
      *static_cast<double*>(target) = v;
      break;
    }
    case Kind::boolean: {
      if (text != "true" && text != "false" && text != "1" && text != "0") refuse();
      *static_cast<bool*>(target) = text == "true" || text == "1";
      break;
    }
    case Kind::text: {
      if (!open_text && std::find(values.begin(), values.end(), text) == values.end()) refuse("; nearest '" + nearest(text, values) + "'");
      *static_cast<std::string*>(target) = text;
      break;
    }
  }
}

Knob& Knobs::add(const char* name, Knob::Kind kind, void* target, std::vector<std::string> values) {
  Knob k;
  k.name = name;
  k.kind = kind;
  k.target = target;
  k.values = std::move(values);
  k.default_value = k.get();
  return knobs_.emplace_back(std::move(k));
}

Knob& Knobs::operator()(const char* name, int& target, std::initializer_list<int> sweep) {
  std::vector<std::string> values;
  for (const int v : sweep) values.push_back(std::to_string(v));
  return add(name, Knob::Kind::integer, &target, std::move(values));
}

Knob& Knobs::operator()(const char* name, double& target, std::initializer_list<double> sweep) {
  std::vector<std::string> values;
  for (const double v : sweep) values.push_back(number_text(v));
  return add(name, Knob::Kind::real, &target, std::move(values));
}

Knob& Knobs::operator()(const char* name, bool& target) { return add(name, Knob::Kind::boolean, &target, {"false", "true"}); }

Knob& Knobs::operator()(const char* name, std::string& target, std::initializer_list<const char*> values) {
  return add(name, Knob::Kind::text, &target, {values.begin(), values.end()});
}

Knob& Knobs::view(const char* name, std::string& target, std::initializer_list<const char*> values) {
  Knob& k = (*this)(name, target, values);
  k.is_view = true;
  return k;
}

Knob* Knobs::find(const std::string& name) {
  for (Knob& k : knobs_)
    if (k.name == name) return &k;
  return nullptr;
}

}  // namespace ssm
