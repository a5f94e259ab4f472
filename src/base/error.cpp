#include "cga/error.h"

namespace cga {
namespace {

std::string compose(std::string_view where, std::string_view problem, std::string_view remedy) {
  std::string text;
  if (!where.empty()) text.append(where).append(": ");
  text.append(problem);
  if (!remedy.empty()) text.append("; ").append(remedy);
  return text;
}

}  // namespace

Error::Error(ErrorKind kind, std::string_view where, std::string_view problem, std::string_view remedy)
    : std::runtime_error(compose(where, problem, remedy)), kind_(kind) {}

}  // namespace cga
