using System.Text.Json;
using Tiller.Jinja;

namespace Tiller.Tests.Jinja;

/// <summary>The moment at which the cases of templates were rendered.</summary>
internal sealed class TemplateClock : TimeProvider
{
    public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.CreateCustomTimeZone("two hours ahead", TimeSpan.FromHours(2), null, null);

    public override DateTimeOffset GetUtcNow() => new(2026, 3, 5, 22, 8, 9, TimeSpan.Zero);
}

/// <summary>What the golden cases cannot show: lines of errors, the clock, sharing, values from C#.</summary>
internal sealed class JinjaTemplateTests
{
    [TestCase("a\nb\n{{ x.y }}", 3, JinjaError.Undefined, "'x' is undefined")]
    [TestCase("a\n{{ 'a\nb'\n + 1 }}", 2, JinjaError.Type, "unsupported operand type(s) for +: 'str' and 'int'")]
    [TestCase("{% if a %}\n{% elif b %}\n{% elif 1 < 'a' %}{% endif %}", 3, JinjaError.Type, null)]
    [TestCase("{% macro m() %}\n{{ 1 / 0 }}\n{% endmacro %}\n\n{{ m() }}", 2, JinjaError.ZeroDivision, null)]
    [TestCase("\n{{ raise_exception('no ' ~ 'role') }}", 2, JinjaError.Raised, "no role")]
    [TestCase("\n\n{% for x in 5 %}{% endfor %}", 3, JinjaError.Type, "'int' object is not iterable")]
    [TestCase("\n{% raw %}\n{% endraw %}\n{{ 'a'.pop() }}{{ [].pop() }}", 4, JinjaError.Undefined, "'str object' has no attribute 'pop'")]
    [TestCase("{# a\nb #}\n{{ [].pop() }}", 3, JinjaError.Security, "access to attribute 'pop' of 'list' object is unsafe.")]
    [TestCase("a\n{% if x %}\n\n", 3, JinjaError.Syntax, null)]
    [TestCase("a\r\nb\r{{ 'x }}", 3, JinjaError.Syntax, "A string is not closed")]
    [TestCase("\n{{ x | nope }}", 2, JinjaError.Syntax, "No filter named 'nope'")]
    [TestCase("\n{% autoescape true %}{% endautoescape %}", 2, JinjaError.Unsupported, null)]
    [TestCase("\n{% include 'a.jinja' %}", 2, JinjaError.Unsupported, null)]
    [TestCase("\n{{ lipsum() }}", 2, JinjaError.Unsupported, null)]
    [TestCase("\n{{ [1, 2] | random }}", 2, JinjaError.Unsupported, null)]
    public void An_error_names_its_line_and_kind(string template, int line, JinjaError code, string? detail)
    {
        JinjaException error = Assert.Throws<JinjaException>(() => JinjaTemplate.Parse(template).Render(new Dictionary<string, JinjaValue>()))!;
        Assert.That((error.Line, error.Code), Is.EqualTo((line, code)));
        Assert.That(error.Message, Does.StartWith($"line {line}: ").And.EndsWith($"[{code}]"));
        Assert.That(error.Detail, detail is null ? Is.Not.Empty : Is.EqualTo(detail));
    }

    [Test]
    public void The_date_is_the_given_clocks_in_its_own_zone() =>
        Assert.That(JinjaTemplate.Parse("{{ strftime_now('%d %b %Y %H:%M') }}")
            .Render(new Dictionary<string, JinjaValue>(), new TemplateClock()).Text, Is.EqualTo("06 Mar 2026 00:08"));

    [Test]
    public void Names_that_a_template_reads_are_listed() =>
        Assert.That(JinjaTemplate.Parse("{{ a.b }}{% set c = d %}{{ c }}{% for x in e %}{{ x }}{{ f }}{% endfor %}").Variables,
            Is.EquivalentTo(new[] { "a", "d", "e", "f" }));

    [Test]
    public void A_variable_takes_precedence_over_a_function() =>
        Assert.That(JinjaTemplate.Parse("{{ range }}").Render(new Dictionary<string, JinjaValue> { ["range"] = JinjaValue.ContentText("x") }).Text,
            Is.EqualTo("x"));

    [Test]
    public void Renderings_at_the_same_time_do_not_meet()
    {
        JinjaTemplate template = JinjaTemplate.Parse("{% set ns = namespace(n=0) %}{% macro m(a) %}{{ a }}{% endmacro %}{% for i in range(300) %}"
            + "{% set ns.n = ns.n + x %}{{ m(i) }}{% endfor %}:{{ ns.n }}");
        string[] texts = new string[64];
        Parallel.For(0, texts.Length, i =>
        {
            using JsonDocument x = JsonDocument.Parse(i.ToString());
            texts[i] = template.Render(new Dictionary<string, JinjaValue> { ["x"] = JinjaValue.FromJson(x.RootElement) }).Text;
        });
        string digits = string.Concat(Enumerable.Range(0, 300));
        Assert.That(texts, Is.EqualTo(Enumerable.Range(0, texts.Length).Select(i => $"{digits}:{300 * i}")));
    }

    [TestCase("""{"a": 1, "b": 1.0, "a": 2, "c": [true, false, null], "d": 123456789012345678901234567890, "e": 1e2, "f": "\ud83d\udea2"}""",
        "{'a': 2, 'b': 1.0, 'c': [True, False, None], 'd': 123456789012345678901234567890, 'e': 100.0, 'f': '🚢'}")]
    [TestCase("-0", "0")]
    [TestCase("-0.0", "-0.0")]
    public void Json_becomes_values_of_Python(string json, string expected)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        Assert.That(JinjaTemplate.Parse("{{ x }}")
            .Render(new Dictionary<string, JinjaValue> { ["x"] = JinjaValue.FromJson(document.RootElement) }).Text, Is.EqualTo(expected));
    }

    [Test]
    public void Json_that_nests_too_deeply_is_refused()
    {
        string deep = new string('[', 900) + new string(']', 900);
        using JsonDocument document = JsonDocument.Parse(deep, new JsonDocumentOptions { MaxDepth = 1000 });
        Assert.That(Assert.Throws<JinjaException>(() => JinjaValue.FromJson(document.RootElement))!.Code, Is.EqualTo(JinjaError.Recursion));
    }

    // Each twice the length of the one before: the steps counted may double, and not square.
    [TestCase("{% for m in l %}{{ '<' + m + '>' }}{% endfor %}")]
    [TestCase("{{ l | join(', ') }}{{ l | tojson }}{{ l | string }}")]
    [TestCase("{{ s.split('b') | length }}{{ s.replace('a', 'cc') | length }}{{ s | trim | upper | length }}{{ s[::2] | length }}"
        + "{{ s | indent | length }}")]
    [TestCase("{{ l | unique | list | length }}{{ l | map('upper') | list | length }}{{ dict.fromkeys(l) | length }}{{ l | sort | length }}")]
    public void Steps_grow_with_the_input_and_not_faster(string template)
    {
        JinjaTemplate parsed = JinjaTemplate.Parse(template);
        long Steps(int n)
        {
            var variables = new Dictionary<string, JinjaValue>
            {
                ["l"] = JinjaValue.List(Enumerable.Range(0, n).Select(i => JinjaValue.ContentText("item " + (i % 100)))),
                ["s"] = JinjaValue.ContentText(string.Concat(Enumerable.Repeat("ab\n", n))),
            };
            long low = 1;
            long high = 1 << 24;
            while (low < high)
            {
                long middle = (low + high) / 2;
                try
                {
                    _ = parsed.Render(variables, limits: new JinjaLimits { Steps = middle });
                    high = middle;
                }
                catch (JinjaException e) when (e.Code == JinjaError.Limit)
                {
                    low = middle + 1;
                }
            }

            return low;
        }

        Assert.That(Steps(8000), Is.LessThan(2.6 * Steps(4000)));
    }
}
