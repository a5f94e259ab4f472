// How values of the template language are written: as Python's str() and as its json.dumps().
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "tokenizer/jinja_value.h"

namespace cga::jinja {
namespace {

std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const double magnitude = std::fabs(value);
  const bool plain = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, end.ptr);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

/// Python's repr() of a text, as it appears inside lists.
std::string quoted(const std::string& text) {
  const char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string result(1, quote);
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (c == '\r') {
      result += "\\r";
    } else {
      if (c == '\\' || c == quote) result += '\\';
      result += c;
    }
  }
  return result + quote;
}

std::string json_string(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        result += "\\\"";
        break;
      case '\\':
        result += "\\\\";
        break;
      case '\n':
        result += "\\n";
        break;
      case '\r':
        result += "\\r";
        break;
      case '\t':
        result += "\\t";
        break;
      case '\b':
        result += "\\b";
        break;
      case '\f':
        result += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          char escape[8];
          std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
          result += escape;
        } else {
          result += c;
        }
    }
  }
  return result + "\"";
}

/// Joins rendered entries in brackets; with an indent, one a line.
std::string bracketed(char open, char close, const std::vector<std::string>& entries, int indent, int level) {
  if (entries.empty()) return {open, close};
  const auto margin = [&](int n) { return "\n" + std::string(static_cast<std::size_t>(indent * n), ' '); };
  const std::string separator = indent < 0 ? ", " : "," + margin(level + 1);
  std::string result(1, open);
  if (indent >= 0) result += margin(level + 1);
  for (std::size_t i = 0; i < entries.size(); ++i) result.append(i == 0 ? "" : separator).append(entries[i]);
  if (indent >= 0) result += margin(level);
  return result + close;
}

std::string json(const Value& value, int indent, int level) {
  using Kind = Value::Kind;
  std::vector<std::string> entries;
  switch (value.kind()) {
    case Kind::none:
      return "null";
    case Kind::boolean:
      return value.truthy() ? "true" : "false";
    case Kind::text:
      return json_string(value.as_text());
    case Kind::integer:
    case Kind::real:
      return to_text(value);
    case Kind::list:
      for (const Value& item : value.as_list()) entries.push_back(json(item, indent, level + 1));
      return bracketed('[', ']', entries, indent, level);
    case Kind::dict:
      for (const auto& [key, item] : value.as_dict()) {
        entries.push_back(json_string(key) + ": " + json(item, indent, level + 1));
      }
      return bracketed('{', '}', entries, indent, level);
    default:
      throw Problem(std::string(value.kind_name()) + " cannot be written as JSON");
  }
}

}  // namespace

std::string to_text(const Value& value) {
  using Kind = Value::Kind;
  const auto inside = [](const Value& v) { return v.is(Kind::text) ? quoted(v.as_text()) : to_text(v); };
  std::vector<std::string> entries;
  switch (value.kind()) {
    case Kind::undefined:
      return "";
    case Kind::none:
      return "None";
    case Kind::boolean:
      return value.truthy() ? "True" : "False";
    case Kind::integer:
      return std::to_string(value.as_integer());
    case Kind::real:
      return real_text(value.as_real());
    case Kind::text:
      return value.as_text();
    case Kind::list:
      for (const Value& item : value.as_list()) entries.push_back(inside(item));
      return bracketed('[', ']', entries, -1, 0);
    case Kind::dict:
      for (const auto& [key, item] : value.as_dict()) entries.push_back(quoted(key) + ": " + inside(item));
      return bracketed('{', '}', entries, -1, 0);
    case Kind::name_space:
      break;
  }
  throw Problem("a namespace cannot be printed");
}

std::string to_json(const Value& value, int indent) {
  return json(value, indent, 0);
}

}  // namespace cga::jinja
