using Tiller.Jinja;

namespace Tiller.Tests.Jinja;

/// <summary>No template runs without end, fills the memory or overflows the stack.</summary>
internal sealed class TemplateLimitTests
{
    private const string Grow = "{% set ns = namespace(l=[1], m=[1], t=(1,), g=[1], n=3, s='ab') %}{% for i in range(99999) %}";

    private static readonly string[] s_tooMuch =
    [
        "{{ 'x' * 1000000000 }}", "{{ [0] * 1000000000 }}", "{{ (1,) * 10 ** 12 }}", "{{ 3 ** (10 ** 9) }}", "{{ 3 ** (10 ** 30) }}",
        "{{ (10 ** 39000) * (10 ** 39000) }}", "{% set x = 'a' * 100000 %}{% for i in range(100000) %}{{ x }}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        Grow + "{% set ns.l = [ns.l, ns.l] %}{% if i == 60 %}{{ ns.l }}{% endif %}{% endfor %}",
        Grow + "{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% if i == 60 %}{{ ns.l == ns.m }}{% endif %}{% endfor %}",
        Grow + "{% set ns.t = (ns.t, ns.t) %}{{ {ns.t: 1} is mapping }}{% endfor %}",
        Grow + "{% set ns.n = ns.n * ns.n %}{% endfor %}", Grow + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        Grow + "{% set ns.s = ns.s | replace('a', ns.s) %}{% endfor %}",
        Grow + "{% set ns.l = ns.l + ['a' * 1000000] %}{% endfor %}", Grow + "{{ range(99999) | list | sort | length }}{% endfor %}",
        Grow + "{% set x = dict.fromkeys(range(99999)) %}{% endfor %}",
        "{% set s = '🚢' * 500000 %}{% for i in range(99999) %}{{ s[i] }}{% endfor %}", "{% set s = 'ab' * 1000000 %}{% for i in range(99999) %}"
            + "{{ s.count('ab') }}{% endfor %}",
        "{{ '%1000000000d' % 1 }}", "{{ '{:1000000000}'.format(1) }}", "{{ '%.1000000000f' % 1 }}", "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a' | center(1000000000) }}", "{{ strftime_now('%9999d' * 100000) }}", "{{ ('a' * 4000000) in ('a' * 8000000) }}",
        "{{ ('a' * 9000000).count('a' * 2000000 ~ 'b' ~ 'a' * 2000000) }}",
        Grow + "{{ {'a' * 1000000: 1} is mapping }}{% endfor %}", Grow + "{{ dict(a=1).get('a' * 1000000) }}{% endfor %}",
        "{% set l = [1] * 99999 %}{% for i in range(99999) %}{{ l.count(l[0]) }}{% endfor %}", "{% set l = [[]] * 99999 %}{% for i in range(99999) %}"
            + "{{ l == l[:] }}{% endfor %}", "{% set l = [[]] * 99999 %}{% for i in range(99999) %}{{ l < l[:] }}{% endfor %}",
        "{% set d = dict.fromkeys(range(99999)) %}{% for i in range(99999) %}{% set e = d.copy() %}{% endfor %}",
        "{% for i in range(99999) %}{{ ('9' * 9999999) | float }}{% endfor %}", "{{ 'a' | indent(1000000000) }}",
        "{{ [1] | tojson(indent=1000000000) }}", "{{ [1] | batch(1000000000, 1) | list }}", "{{ [1] | slice(1000000000, 1) | list }}",
    ];

    private static readonly string[] s_tooDeep =
    [
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(1) }}", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", Grow + "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        Grow + "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | tojson }}",
        Grow + "{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l == ns.m }}", Grow + "{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}"
            + "{% endfor %}{{ ns.l < ns.m }}",
        Grow + "{% set ns.g = ns.g | map('string') %}{% endfor %}{{ ns.g | list }}",
    ];

    private static readonly string[] s_tooNested =
    [
        $"{{{{ {new string('(', 5000)}1{new string(')', 5000)} }}}}", $"{{{{ {new string('[', 5000)} }}}}", $"{{{{ {new string('-', 50_000)}1 }}}}",
        $"{{{{ x{Many(".a", 50_000)} }}}}", $"{{{{ x{Many("|upper", 50_000)} }}}}", $"{{{{ 1{Many(" * 1", 50_000)} }}}}",
        $"{{{{ 1{Many(" if 1 else 1", 50_000)} }}}}",
        Many("{% if 1 %}", 50_000), Many("{% for x in y %}", 50_000), Many("{% macro m() %}", 50_000), Many("{% filter upper %}", 50_000),
        $"{{% set {new string('(', 50_000)} = 1 %}}",
    ];

    [TestCaseSource(nameof(s_tooMuch))]
    public void Too_much_work_or_text_is_refused(string template) => Assert.That(Code(template), Is.EqualTo(JinjaError.Limit));

    [TestCaseSource(nameof(s_tooDeep))]
    public void Too_deep_a_recursion_is_refused(string template) => Assert.That(Code(template), Is.EqualTo(JinjaError.Recursion));

    [TestCaseSource(nameof(s_tooDeep))]
    public void Too_deep_a_recursion_is_refused_on_a_small_stack(string template)
    {
        JinjaError? code = null;
        var thread = new Thread(() => code = Code(template), 256 * 1024);
        thread.Start();
        thread.Join();
        Assert.That(code, Is.EqualTo(JinjaError.Recursion));
    }

    [TestCaseSource(nameof(s_tooNested))]
    public void Too_nested_a_template_is_refused(string template) => Assert.That(Code(template), Is.EqualTo(JinjaError.Syntax));

    [Test]
    public void Long_rows_of_operators_take_no_stack([Values(" + 1", " - 1", " ~ 1", " and 1", " or 1", " < 1", ", 1")] string more) =>
        Assert.That(Render($"{{{{ 1{Many(more, 20_000)} }}}}"), Is.Not.Empty);

    [Test]
    public void Many_nots_take_no_stack([Values(50_000, 50_001)] int nots)
        => Assert.That(Render($"{{{{ {Many("not ", nots)}1 }}}}"), Is.EqualTo(nots % 2 == 0 ? "True" : "False"));

    [TestCase("{% macro f(n) %}{% if n %}{{ f(n - 1) }}x{% endif %}{% endmacro %}{{ f(150) | length }}", "150")]
    [TestCase("{% set ns = namespace(l=1) %}{% for i in range(400) %}{% set ns.l = [ns.l] %}{% endfor %}"
        + "{{ (ns.l | tojson == ns.l | string) and ns.l == ns.l[:] }}", "True")]
    [TestCase("{{ range(100000) | length }}", "100000")]
    public void A_hundred_levels_and_a_hundred_thousand_numbers_are_no_trouble(string template, string expected)
        => Assert.That(Render(template), Is.EqualTo(expected));

    // Twice as long a template may take twice the memory to parse, and not four times.
    [TestCase("{{% set a{0} = {0} %}}{{% if a{0} %}}{{% set b{0} = 1 %}}{{% else %}}{{{{ c{0} }}}}{{% endif %}}")]
    [TestCase("{{{{ a{0} + 'x' 'y' 'z' ~ b.c{0}[{0}] }}}}")]
    [TestCase("{{% macro m{0}(a, b={0}) %}}{{{{ a{0} }}}}{{% endmacro %}}{{% for x in y %}}{{{{ m{0}(x) }}}}{{% endfor %}}")]
    [TestCase("{{% raw %}}{{{{{{% endraw %}}{{# {0} #}}   {{%- if x -%}}   {{%- endif %}}")]
    public void Parsing_takes_memory_in_proportion(string piece)
    {
        long Parse(int n)
        {
            string template = string.Concat(Enumerable.Range(0, n).Select(i => string.Format(piece, i)));
            long before = GC.GetAllocatedBytesForCurrentThread();
            _ = JinjaTemplate.Parse(template);
            return GC.GetAllocatedBytesForCurrentThread() - before;
        }

        _ = Parse(10);
        Assert.That(Parse(8000), Is.LessThan(2.7 * Parse(4000)));
    }

    // As many changes of origin as characters: cutting one by one looks at few of them.
    [Test]
    public void A_text_of_many_origins_is_cut_in_steps_that_grow_with_it()
    {
        var run = new Run(JinjaLimits.Default, TimeProvider.System, CancellationToken.None);
        var mixed = new TextBuilder(run);
        for (int i = 0; i < 200_000; i++)
        {
            mixed.Append('a', content: i % 2 == 0);
        }

        Text text = mixed.ToText();
        Text turned = (Text)text.Cut(new Indexes(null, null, Int.Of(-1)), run);
        Assert.That(turned.Changes.Length, Is.EqualTo(200_000 - 1));
        Assert.That(((Text)turned.Cut(new Indexes(null, null, Int.Of(-1)), run)).Changes.ToArray(), Is.EqualTo(text.Changes.ToArray()));
    }

    [Test]
    public void The_caller_sets_the_limits()
    {
        var small = new JinjaLimits { Steps = 1000, TextLength = 100, Nesting = 50 };
        Assert.That(Code("{% for i in range(2000) %}{% endfor %}", small), Is.EqualTo(JinjaError.Limit));
        Assert.That(Code("{{ 'a' * 101 }}", small), Is.EqualTo(JinjaError.Limit));
        Assert.That(Code("{% for i in range(11) %}aaaaaaaaaa{% endfor %}", small), Is.EqualTo(JinjaError.Limit));
        Assert.That(Code("{% macro f(n) %}{{ f(n - 1) if n }}{% endmacro %}{{ f(10) }}", small), Is.EqualTo(JinjaError.Recursion));
    }

    [Test]
    public void A_rendering_can_be_cancelled()
    {
        using var source = new CancellationTokenSource();
        source.Cancel();
        JinjaTemplate template = JinjaTemplate.Parse("{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}");
        Assert.Throws<OperationCanceledException>(() => template.Render(new Dictionary<string, JinjaValue>(), cancellationToken: source.Token));
    }

    private static string Many(string piece, int count) => string.Concat(Enumerable.Repeat(piece, count));

    private static string Render(string template) => JinjaTemplate.Parse(template).Render(new Dictionary<string, JinjaValue>()).Text;

    private static JinjaError? Code(string template, JinjaLimits? limits = null)
    {
        try
        {
            _ = JinjaTemplate.Parse(template).Render(new Dictionary<string, JinjaValue>(), limits: limits);
            return null;
        }
        catch (JinjaException e)
        {
            return e.Code;
        }
    }
}
