#include "tokenizer/jinja_renderer.h"

#include "cga/error.h"
#include "tokenizer/jinja_evaluator.h"

namespace cga::jinja {
namespace {

/// How a block was left: at its end, or by break or continue.
enum class Exit { end, stop, skip };

class Renderer {
 public:
  Renderer(const Dict& variables, std::int64_t budget) : evaluator_(variables, budget) {}

  Exit run(const Block& block);
  int line() const { return evaluator_.line(); }
  std::string take_output() { return std::move(out_); }

 private:
  void write(const std::string& text) {
    evaluator_.budget().pay(static_cast<std::int64_t>(text.size()));
    out_ += text;
  }
  Exit run_condition(const Statement& statement);
  Exit run_loop(const Statement& statement);
  void run_set(const Statement& statement);
  void assign(const std::vector<std::string>& targets, const Value& value);
  List loop_items(const Statement& statement);

  Evaluator evaluator_;
  std::string out_;
};

Exit Renderer::run(const Block& block) {
  for (const Statement& statement : block) {
    evaluator_.at_line(statement.line);
    evaluator_.budget().pay(1);
    Exit exit = Exit::end;
    switch (statement.kind) {
      case Statement::Kind::text:
        write(statement.text);
        break;
      case Statement::Kind::output: {
        const Value value = evaluator_.evaluate(*statement.expression);
        evaluator_.budget().pay(value.weight());
        write(to_text(value));
        break;
      }
      case Statement::Kind::condition:
        exit = run_condition(statement);
        break;
      case Statement::Kind::loop:
        exit = run_loop(statement);
        break;
      case Statement::Kind::set:
        run_set(statement);
        break;
      case Statement::Kind::set_member:
        evaluator_.scopes()
            .find(statement.targets[0])
            .assign(statement.targets[1], evaluator_.evaluate(*statement.expression));
        break;
      case Statement::Kind::stop:
        return Exit::stop;
      case Statement::Kind::skip:
        return Exit::skip;
    }
    if (exit != Exit::end) return exit;
  }
  return Exit::end;
}

Exit Renderer::run_condition(const Statement& statement) {
  for (const Statement::Branch& branch : statement.branches) {
    if (!branch.condition || evaluator_.evaluate(*branch.condition).truthy()) return run(branch.body);
  }
  return Exit::end;
}

List Renderer::loop_items(const Statement& statement) {
  const Value iterated = evaluator_.evaluate(*statement.expression);
  List items = evaluator_.budget().items_of(iterated);
  if (!statement.filter) return items;
  List kept;
  for (Value& item : items) {
    const Scopes::Inner scope(evaluator_.scopes());
    assign(statement.targets, item);
    if (evaluator_.evaluate(*statement.filter).truthy()) kept.push_back(std::move(item));
  }
  return kept;
}

Exit Renderer::run_loop(const Statement& statement) {
  const List items = loop_items(statement);
  if (items.empty()) return run(statement.otherwise);
  const auto n = static_cast<std::int64_t>(items.size());
  for (std::int64_t i = 0; i < n; ++i) {
    const auto item = [&](std::int64_t at) {
      return at >= 0 && at < n ? items[static_cast<std::size_t>(at)] : Value();
    };
    const Scopes::Inner scope(evaluator_.scopes());
    evaluator_.scopes().set("loop", Value::dict({{"index", Value::integer(i + 1)},
                                                 {"index0", Value::integer(i)},
                                                 {"revindex", Value::integer(n - i)},
                                                 {"revindex0", Value::integer(n - i - 1)},
                                                 {"first", Value::boolean(i == 0)},
                                                 {"last", Value::boolean(i + 1 == n)},
                                                 {"length", Value::integer(n)},
                                                 {"previtem", item(i - 1)},
                                                 {"nextitem", item(i + 1)}}));
    assign(statement.targets, item(i));
    if (run(statement.body) == Exit::stop) break;
  }
  return Exit::end;
}

void Renderer::run_set(const Statement& statement) {
  if (statement.expression) return assign(statement.targets, evaluator_.evaluate(*statement.expression));
  std::string outer = std::move(out_);
  out_.clear();
  {
    const Scopes::Inner scope(evaluator_.scopes());
    run(statement.body);
  }
  std::swap(out_, outer);
  assign(statement.targets, Value::text(std::move(outer)));
}

void Renderer::assign(const std::vector<std::string>& targets, const Value& value) {
  if (targets.size() == 1) return evaluator_.scopes().set(targets[0], value);
  const List items = value.items();
  if (items.size() != targets.size()) {
    throw Problem("has " + std::to_string(items.size()) + " values for " + std::to_string(targets.size()) +
                  " names");
  }
  for (std::size_t i = 0; i < targets.size(); ++i) evaluator_.scopes().set(targets[i], items[i]);
}

}  // namespace

std::string render(const Block& program, const Dict& variables, std::string_view origin,
                   std::int64_t budget) {
  Renderer renderer(variables, budget);
  const auto where = [&] { return std::string(origin) + ":" + std::to_string(renderer.line()); };
  try {
    renderer.run(program);
  } catch (const Refused& refusal) {
    throw Error(ErrorKind::usage, where(),
                std::string("the chat template refuses the conversation: ") + refusal.what(),
                "change the messages, or pass another template");
  } catch (const Problem& problem) {
    throw Error(ErrorKind::bad_file, where(), problem.what(), "pass another template");
  }
  return renderer.take_output();
}

}  // namespace cga::jinja
