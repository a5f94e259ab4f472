// Purity on the CPU (runtime/purity.h).
#include "runtime/purity.h"

namespace cga::test {

TEST_CASE("a session's next logits depend on its text, spans and settings alone") {
  require_purity("cpu", 60);
}

TEST_CASE("sessions give back all they took: an engine does not wear out") {
  require_no_wear("cpu");
}

}  // namespace cga::test
