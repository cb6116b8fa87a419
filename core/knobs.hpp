// knobs.hpp - named switches, declared once beside the thing they switch and read by the command line, `list`, tests, sweeps and plots.
//
//   void knobs(Knobs& k) override {
//     k("d_state", d_state, {16, 64}).range(1, 4096).note("state size N of one channel");
//     k("disc", disc, {"zoh", "bilinear"}).note("discretisation", "no significant difference reported");
//     k.view("view", view, {"conv", "scan"});
//   }
//
// The value a member has when knobs() is called first is the default; the list holds the values a sweep tries. Text knobs accept only
// the listed values. A knob may change the output (an ablation); a view changes speed and memory, never the output.
#pragma once
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

namespace ssm {

struct Knob {
  enum class Kind { integer, real, boolean, text };
  std::string name;
  Kind kind;
  bool is_view = false;
  void* target;
  std::string default_value;
  std::vector<std::string> values;  // what a sweep tries; for text also all that is allowed
  double lo = -std::numeric_limits<double>::infinity(), hi = std::numeric_limits<double>::infinity();
  bool open_text = false;  // a text knob that accepts any word (a path, a pattern)
  std::string help, finding;

  Knob& range(double low, double high) { return lo = low, hi = high, *this; }
  Knob& note(const char* what, const char* found = "") { return help = what, finding = found, *this; }
  Knob& any_text() { return open_text = true, *this; }

  // Canonical text of the present value ("64", "0.1", "true", "zoh").
  std::string get() const;
  // Throws BadInput naming `full_name`, the value and what is allowed.
  void set(const std::string& text, const std::string& full_name);
  // "integer in [1, 4096]", "one of zoh, bilinear"
  std::string allowed() const;
};

class Knobs {
 public:
  Knob& operator()(const char* name, int& target, std::initializer_list<int> sweep = {});
  Knob& operator()(const char* name, double& target, std::initializer_list<double> sweep = {});
  Knob& operator()(const char* name, bool& target);
  Knob& operator()(const char* name, std::string& target, std::initializer_list<const char*> values);
  Knob& view(const char* name, std::string& target, std::initializer_list<const char*> values);

  std::vector<Knob>& all() { return knobs_; }
  const std::vector<Knob>& all() const { return knobs_; }
  Knob* find(const std::string& name);

 private:
  Knob& add(const char* name, Knob::Kind kind, void* target, std::vector<std::string> values);
  std::vector<Knob> knobs_;
};

// Shortest text that reads back as the same double ("0.001", "1e-05", "64").
std::string number_text(double value);

}  // namespace ssm
