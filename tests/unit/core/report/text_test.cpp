#include "core/report/text.h"

#include <gtest/gtest.h>

namespace faultline::report {
namespace {

using namespace literals;

TEST(ReportText, NumbersKeepThreeDigitsAndGroupThousands) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
  EXPECT_EQ(number(0.01234), "0.0123");
  EXPECT_EQ(number(9.994), "9.99");
  EXPECT_EQ(number(9.996), "10.0");
  EXPECT_EQ(number(99.96), "100");
  EXPECT_EQ(number(1234.5), "1,235");
  EXPECT_EQ(number(0.5), "0.500");
  EXPECT_EQ(number(0), "0");
}

TEST(ReportText, TimesChooseTheirUnit) {
  EXPECT_EQ(time_text(0_s), "0 s");
  EXPECT_EQ(time_text(850_ns), "850 ns");
  EXPECT_EQ(time_text(1300_us), "1.30 ms");
  EXPECT_EQ(time_text(119_s), "119 s");
  EXPECT_EQ(time_text(125_s), "2 min 05 s");
  EXPECT_EQ(time_text(7'380_s), "2 h 03 min");
  EXPECT_EQ(time_text(std::nullopt), "–");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1536), "1.50 KiB");
}

TEST(ReportText, FitCutsAndPadsByCharactersNotBytes) {
  EXPECT_EQ(fit("äöü", 5), "äöü  ");
  EXPECT_EQ(fit("äöü", 5, true), "  äöü");
  EXPECT_EQ(fit("äöüß", 3), "äö…");
  EXPECT_EQ(fit("abc", 0), "");
}

TEST(ReportText, WrappedLinesFitAndLoseNoWord) {
  EXPECT_EQ(wrapped("aa bb cc", 5), (std::vector<std::string>{"aa bb", "cc"}));
  EXPECT_EQ(wrapped("aaaaaaaa b", 5), (std::vector<std::string>{"aaaa…", "b"}));
  EXPECT_TRUE(wrapped("", 5).empty());
}

TEST(ReportText, ControlCharactersCannotReachATerminal) {
  EXPECT_EQ(printable("a\033[2Jb\r\n\x07"), "a?[2Jb???");
  EXPECT_EQ(printable("\xC2\x9B"
                      "31m"),
            "?31m")
      << "the one-byte form of ESC [";
  EXPECT_EQ(printable("\xE2\x80\xAE"
                      "gpj.exe"),
            "?gpj.exe")
      << "right-to-left override";
  EXPECT_EQ(printable("ok \xff \xC0\xAF \xED\xA0\x80"), "ok ? ?? ???") << "invalid UTF-8";
  EXPECT_EQ(printable("Grüße 例 🙂"), "Grüße 例 🙂");
}

TEST(ReportText, HtmlEscapesEveryCharacterThatCouldLeaveAnAttributeOrElement) {
  EXPECT_EQ(html_escape("<a href=\"x\" b='y'>&"), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
  EXPECT_EQ(html_escape("a\nb"), "a\nb");
  EXPECT_EQ(html_escape("\x01\xff"), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(ReportText, BarsShadeWhatIsMissing) {
  const auto rows = bar_chart({4, 0, 2}, {4, 4, 4}, 4, 2);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0], "█░░");
  EXPECT_EQ(rows[1], "█░█");
  EXPECT_EQ(bar_chart({1}, {}, 0, 1)[0], " ") << "no scale, no bar";
  EXPECT_EQ(bar(0.5, 4), "██");
  EXPECT_EQ(bar(1e-9, 4), "▏") << "something is not nothing";
  EXPECT_EQ(bar(0, 4), "");
}

}  // namespace
}  // namespace faultline::report
