using System.Text.Json;
using Tiller.Jinja;

namespace Tiller.Tests.Jinja;

/// <summary>Which characters of a rendered text are content and which the template's own.</summary>
internal sealed class OriginTests
{
    private const string Given = """
        {"m": {"role": "user", "content": " <s> a-b "}, "l": ["x", "y"], "n": 7, "t": true, "z": null, "ship": "🚢ab", "d": {"k": "v"}, "e": ""}
        """;

    // Content stands between ‹ and ›.
    [TestCase("a{{ m.content }}b", "a‹ <s> a-b ›b")]
    [TestCase("{{ '<s>' }}{{ bos_token }}{{ m.role }}", "<s><s>‹user›")]
    [TestCase("{{ '[' + m.content | trim + ']' }}", "[‹<s> a-b›]")]
    [TestCase("{{ '[' ~ m['content'] ~ n ~ ']' ~ 1 ~ loop_ }}", "[‹ <s> a-b 7›]1")]
    [TestCase("{{ m.content[1:4] }}{{ ('<s>' ~ m.role)[1:5] }}{{ ('<s>' ~ m.role)[::-1] }}", "‹<s>›s>‹usresu›>s<")]
    [TestCase("{{ ship[0] }}{{ ship[1:] }}{{ ('ab' ~ ship)[2] }}{{ ship|first }}{{ ship|list|join('.') }}", "‹🚢ab🚢🚢🚢›.‹a›.‹b›")]
    [TestCase("{{ m.content.split('-')[1] }}{{ ('a-' ~ m.role).split('-') | join('+') }}", "‹b ›a+‹user›")]
    [TestCase("{{ ('a\n' ~ m.role).splitlines()[1] }}{{ (m.role ~ '=1').partition('=') | join }}", "‹useruser›=1")]
    [TestCase("{{ ('__' ~ m.role).lstrip('_') }}{{ ('x' ~ m.role).removeprefix('xu') }}{{ m.role.rstrip('r') ~ '|' }}", "‹userseruse›|")]
    [TestCase("{{ l | join(', ') }}{{ ', '.join(l) }}", "‹x›, ‹yx›, ‹y›")]
    [TestCase("{{ m.role | replace('u', '<s>') }}{{ m.role.upper() }}{{ m | tojson }}{{ '<s>' | upper }}",
        "‹<s>serUSER{\"role\": \"user\", \"content\": \" <s> a-b \"}›<S>")]
    [TestCase("{{ 'abc' | replace('b', m.role) }}{{ ('<s>' ~ m.role) | replace('x', 'y') }}", "‹auserc<s>user›")]
    [TestCase("{{ m.role * 2 ~ '-' * 2 }}{{ ('-' ~ m.role) * 2 }}", "‹useruser›---‹user›-‹user›")]
    [TestCase("{{ n }}{{ n + 1 }}{{ t }}{{ z }}{{ 1 + 1 }}{{ l }}{{ [1, 'a'] }}{{ l | length }}{{ [m.role, 1] }}",
        "‹78TrueNone›2‹['x', 'y']›[1, 'a']2‹['user', 1]›")]
    [TestCase("{% for x in l %}{{ loop.index }}{{ x }}{% endfor %}{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}", "1‹x›2‹yk›=‹v›")]
    [TestCase("{% set s %}<s>{{ m.role }}{% endset %}{{ s }}{% macro f(a) %}({{ a }}){% endmacro %}{{ f(m.role) }}{{ f('a') | trim('()') }}",
        "<s>‹user›(‹user›)a")]
    [TestCase("{% set ns = namespace(s='<s>') %}{% set ns.s = ns.s + m.role %}{{ ns.s }}{% filter trim %} {{ m.role }}{% endfilter %}",
        "<s>‹useruser›")]
    [TestCase("{{ '%s-%d' % (m.role, n) }}{{ '{}|{:>3}'.format(m.role, 'a') }}{{ '%s'|format('a') }}", "‹user›-‹7user›|  aa")]
    [TestCase("{{ m.role.center(8, '*') }}{{ m.role.ljust(6) }}|{{ m.role | indent(2, true) }}{{ 'a\nb' | indent(1) }}",
        "**‹user›**‹user›  |  ‹user›a\n b")]
    [TestCase("{{ m.role | e }}{{ ('<' ~ m.content) | e }}{{ m.content | safe }}", "‹user›&lt;‹ &lt;s&gt; a-b  <s> a-b ›")]
    [TestCase("{{ e }}{{ e ~ 'a' }}{{ missing }}{{ m.content if false else 'b' }}{{ m.nope or '<s>' }}", "ab<s>")]
    [TestCase("{{ strftime_now('%Y') }}{{ dict(a=m.role).a }}{{ {'a': 'b'} | items | list }}{{ m.role | default('x') }}{{ nope | default('x') }}",
        "2026‹user›[('a', 'b')]‹user›x")]
    [TestCase("{% generation %}{{ m.role }}<s>{% endgeneration %}{% macro f() %}[{{ caller('<s>') }}]{% endmacro %}{% call(x) f() %}{{ x }}{{ n }}"
        + "{% endcall %}", "‹user›<s>[<s>‹7›]")]
    public void Content_is_every_character_that_comes_from_a_variable(string template, string expected)
        => Assert.That(Marked(template), Is.EqualTo(expected));

    [Test]
    public void Spans_cover_the_text_and_alternate()
    {
        JinjaRendering rendering = Render("a{{ m.role }}{{ '' }}b{{ e }}c{{ m.role }}{{ m.role }}");
        Assert.That(rendering.Text, Is.EqualTo("auserbcuseruser"));
        Assert.That(rendering.Spans, Is.EqualTo(new JinjaSpan[] { new(0, 1, false), new(1, 4, true), new(5, 2, false), new(7, 8, true) }));
        Assert.That(Render("").Spans, Is.Empty);
    }

    // Cutting and joining at random, against an array with one origin for each character.
    [Test]
    public void Random_cuts_and_joins_keep_the_origin_of_every_character()
    {
        var random = new Random(7);
        var run = new Run(JinjaLimits.Default, TimeProvider.System, CancellationToken.None);
        for (int round = 0; round < 300; round++)
        {
            var expected = new List<(char C, bool Content)>();
            Text text = Text.Empty;
            for (int step = 0; step < 12; step++)
            {
                var more = new TextBuilder(run);
                more.Append(text);
                bool content = random.Next(2) == 0;
                string piece = new([.. Enumerable.Range(0, random.Next(4)).Select(_ => (char)('a' + random.Next(26)))]);
                more.Append(piece, content);
                expected.AddRange(piece.Select(c => (c, content)));
                text = more.ToText();
                if (random.Next(3) == 0 && text.Value.Length > 0)
                {
                    int start = random.Next(text.Value.Length);
                    int length = random.Next(text.Value.Length - start + 1);
                    text = text.Slice(start, length);
                    expected = expected[start..(start + length)];
                }
            }

            Assert.That(text.Value, Is.EqualTo(new string([.. expected.Select(static x => x.C)])));
            Assert.That(Enumerable.Range(0, text.Value.Length).Select(text.IsContentAt), Is.EqualTo(expected.Select(static x => x.Content)));
            Assert.That(text.HasContent, Is.EqualTo(expected.Exists(static x => x.Content)));
        }
    }

    [Test]
    public void What_is_taken_back_from_a_text_keeps_its_origins_and_so_does_the_rest()
    {
        var random = new Random(8);
        var run = new Run(JinjaLimits.Default, TimeProvider.System, CancellationToken.None);
        for (int round = 0; round < 300; round++)
        {
            (string Piece, bool Content)[] pieces =
                [.. Enumerable.Range(0, random.Next(6)).Select(_ => ("abc"[..random.Next(4)], random.Next(2) == 0))];
            Text whole = Joined(pieces).ToText();
            int start = random.Next(whole.Length + 1);
            TextBuilder rest = Joined(pieces);
            Text taken = rest.Take(start);
            rest.Append("d", content: true);
            Assert.That(Spans(taken), Is.EqualTo(Spans(whole.Slice(start, whole.Length - start))));
            TextBuilder expected = new(run);
            expected.Append(whole, 0, start);
            expected.Append("d", content: true);
            Assert.That(Spans(rest.ToText()), Is.EqualTo(Spans(expected.ToText())));
        }

        TextBuilder Joined((string Piece, bool Content)[] pieces)
        {
            var joined = new TextBuilder(run);
            Array.ForEach(pieces, x => joined.Append(x.Piece, x.Content));
            return joined;
        }

        static (string, IReadOnlyList<JinjaSpan>) Spans(Text text) => (text.Value, new JinjaRendering(text).Spans);
    }

    // Expressions that are written, or asked whether they hold, without making their value.
    [TestCase("'a' + m.role + '<b>'")]
    [TestCase("'<' + m.role + ('>' | e) + m.content")]
    [TestCase("('<b>' | safe) + m.role + '<'")]
    [TestCase("m.role + ('a' + ('<' | e)) + 'b'")]
    [TestCase("'a' + '' + e + m.role")]
    [TestCase("1 + 2 - n")]
    [TestCase("l + ['<s>']")]
    [TestCase("m.role ~ 1 ~ ('<' | e) ~ (m.content if t else 'b') ~ l")]
    [TestCase("m.content + 'a' if n else 'b' + m.role")]
    [TestCase("m.content + 'a' if not n else 'b' + m.role")]
    [TestCase("'b' if z")]
    [TestCase("n > 3 and m.role or 'x'")]
    [TestCase("z or m.nope or e")]
    [TestCase("1 < n < 5")]
    [TestCase("1 < n <= 7 != 8")]
    [TestCase("not 'user' in m.role")]
    [TestCase("m.role is string")]
    [TestCase("m.content.strip().split('-')[-1]")]
    [TestCase("m.content.rsplit('-', 1) | join('<s>')")]
    [TestCase("m['content'].startswith(' <') ~ d.items() | list ~ d.get('k') ~ d.k ~ d.get")]
    [TestCase("[-1, +2.5, -n, --1, -1 ** 2, 3 - -1, 9223372036854775807 - -1]")]
    [TestCase("'aaa'.split('aa') ~ 'aaa'.rsplit('aa') ~ 'a,b,c'.split(',', 1) ~ 'a,b,c'.rsplit(',', 1) ~ 'ab'.split('abc')")]
    public void An_expression_is_written_as_its_value_is(string expression)
    {
        string written = Marked($"{{{{ {expression} }}}}");
        Assert.That(Marked($"{{% set y = {expression} %}}{{{{ y }}}}"), Is.EqualTo(written));
        Assert.That(Marked($"({{{{ {expression} }}}}){{{{ m.role }}}}{{{{ {expression} }}}}"), Is.EqualTo(
            Marked($"{{% set y = {expression} %}}({{{{ y }}}}){{{{ m.role }}}}{{{{ y }}}}")));
        Assert.That(Marked($"{{{{ 1 if ({expression}) else 0 }}}}"), Is.EqualTo(Marked($"{{% set y = {expression} %}}{{{{ 1 if y else 0 }}}}")));
    }

    // As jinja2 renders them, where a sign binds more closely than a power.
    [TestCase("{{ [-1, +2.5, --1, -1 ** 2, 3 - -1, 9223372036854775807 - -1, -9223372036854775807 - 2] }}",
        "[-1, 2.5, 1, 1, 4, 9223372036854775808, -9223372036854775809]")]
    [TestCase("{{ 'aaa'.split('aa') ~ 'aaa'.rsplit('aa') ~ 'a,b,c'.split(',', 1) ~ 'a,b,c'.rsplit(',', 1) ~ 'ab'.split('abc') }}",
        "['', 'a']['a', '']['a', 'b,c']['a,b', 'c']['ab']")]
    [TestCase("{{ '<b>' + ('&' | e) + 'c' }}", "&lt;b&gt;&amp;c")]
    public void Sums_splits_and_signs_are_the_published_ones(string template, string expected) =>
        Assert.That(Render(template).Text, Is.EqualTo(expected));

    private static string Marked(string template)
    {
        JinjaRendering rendering = Render(template);
        return string.Concat(rendering.Spans.Select(span => rendering.Text.Substring(span.Start, span.Length))
            .Zip(rendering.Spans, static (text, span) => span.IsContent ? $"‹{text}›" : text));
    }

    private static JinjaRendering Render(string template)
    {
        using JsonDocument given = JsonDocument.Parse(Given);
        var variables = given.RootElement.EnumerateObject().ToDictionary(static p => p.Name, static p => JinjaValue.FromJson(p.Value));
        variables["bos_token"] = JinjaValue.TemplateText("<s>");
        return JinjaTemplate.Parse(template).Render(variables, new TemplateClock());
    }
}
