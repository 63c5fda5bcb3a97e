// Whether markup is well-formed XML, as far as the reports use it: elements with quoted attributes,
// text, character references, one <!DOCTYPE>. No comments, no CDATA, no namespaces.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace engram::tests {

class XmlCheck {
 public:
  explicit XmlCheck(std::string_view text) : text_(text) {}

  // Empty when it is well-formed, else what is wrong and where.
  std::string error() {
    if (text_.starts_with("<!DOCTYPE html>")) at_ = 15;
    while (error_.empty() && at_ < text_.size()) {
      text_[at_] == '<' ? tag() : character();
    }
    if (error_.empty() && !open_.empty()) fail("<" + open_.back() + "> is not closed");
    if (error_.empty() && roots_ != 1) fail("expected one root element");
    return error_;
  }

 private:
  void fail(const std::string& what) { error_ = what + " at byte " + std::to_string(at_); }

  static bool name_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
  }

  std::string name() {
    const size_t from = at_;
    while (at_ < text_.size() && name_letter(text_[at_])) ++at_;
    if (at_ == from) fail("expected a name");
    return std::string(text_.substr(from, at_ - from));
  }

  void spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }

  bool take(std::string_view what) {
    if (text_.substr(at_, what.size()) != what) return false;
    at_ += what.size();
    return true;
  }

  // One character of text or of an attribute.
  void character() {
    const char c = text_[at_];
    if (open_.empty() && c != '\n' && c != ' ') return fail("text outside the root element");
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' && c != '\r') {
      return fail("a control character");
    }
    if (c != '&') {
      ++at_;
      return;
    }
    for (const std::string_view entity : {"&lt;", "&gt;", "&amp;", "&quot;", "&#39;"}) {
      if (take(entity)) return;
    }
    fail("a bare &");
  }

  void attribute(std::set<std::string>* names) {
    const std::string attribute_name = name();
    if (!names->insert(attribute_name).second) return fail("a second " + attribute_name);
    if (!take("=\"")) return fail("an attribute without a quoted value");
    while (error_.empty() && at_ < text_.size() && text_[at_] != '"') {
      text_[at_] == '<' ? fail("< within an attribute") : character();
    }
    if (error_.empty() && !take("\"")) fail("an attribute that does not end");
  }

  void tag() {
    ++at_;
    if (take("/")) {
      const std::string closed = name();
      if (!error_.empty()) return;
      if (open_.empty() || open_.back() != closed) return fail("</" + closed + "> closes nothing");
      open_.pop_back();
      if (!take(">")) fail("expected >");
      return;
    }
    if (open_.empty()) ++roots_;
    open_.push_back(name());
    std::set<std::string> names;
    while (error_.empty()) {
      spaces();
      if (take(">")) return;
      if (take("/>")) {
        open_.pop_back();
        return;
      }
      attribute(&names);
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<std::string> open_;
  int roots_ = 0;
  std::string error_;
};

inline std::string xml_error(std::string_view text) {
  return XmlCheck(text).error();
}

}  // namespace engram::tests
