using System.Text;
using System.Text.Json;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Jinja;

namespace Tiller.Fuzz.Targets;

/// <summary>
/// A chat template: it is parsed, and rendered on a conversation within bounds. Its text has spans that cover it, and no content is lost to the
/// template.
/// </summary>
internal sealed class TemplateTarget(Corpus corpus) : FuzzTarget
{
    // A word that a template does not spell, unless mutation put its characters or an escape there: where it stands in a text is content.
    private const string Secret = "\uE000q\uE001";

    private static readonly JinjaLimits s_limits = new() { Steps = 100_000, TextLength = 1 << 20, Nesting = 300 };

    private static readonly Dictionary<string, JinjaValue> s_variables = Variables();

    public override string Name => "template";

    public override IReadOnlyList<byte[]> Seeds { get; } =
    [
        .. corpus.Files("chat_template.jinja"), .. new[]
        {
            "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
            "{% set ns = namespace(i=0, s='') %}{%- for m in messages if m.role != 'tool' -%}{% set ns.i = ns.i + 1 %}"
            + "{{ '<' ~ m.role | upper ~ '>' + m.content | trim }}{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}",
            "{% macro f(a, b=1) %}{{ a | tojson(indent=2) }}{% if b < 4 %}{{ f(a, b + 1) }}{% endif %}{{ caller() if caller }}{% endmacro %}"
            + "{% call f(tools) %}x{% endcall %}{{ f(b=2, a=messages) }}",
            "{% for n in tools recursive %}{{ loop.depth }}{{ n.name }}{{ loop(n.kids or []) }}{% else %}-{% endfor %}{% filter upper %}"
            + "{{ messages[-1].content[1:][::-1] }}{% endfilter %}",
            "{{ '%s|%5.2f|%-4d' % (messages[0].role, 1.5, 3) }}{{ '{0:>{1}} {x!r}'.format('a', 5, x=tools) }}"
            + "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(', ') }}",
            "{% set x %}{{ messages | groupby('role') | list }}{% endset %}{{ x.split('a', 1) }}{{ 7 // -2 ** 2 % 3 }}{{ (1, 2) < (1, 3) == true }}"
            + "{{ range(9)[::2] | batch(2, 0) | list }}{{ strftime_now('%d %b %Y') }}",
            "{%+ if tools is mapping or tools is none and not x is defined %} {% raw %}{{ }}{% endraw %} {# c -#}\n{% elif 'a' in messages[0] %}"
            + "{% generation %}{{ messages | length }}{% endgeneration %}{% endif +%}\n{{ raise_exception('no') if not add_generation_prompt }}",
        }.Select(Encoding.UTF8.GetBytes),
    ];

    public override IReadOnlyList<byte[]> Words { get; } = [.. new[]
    {
        "{{", "}}", "{%", "%}", "{%-", "-%}", "+%}", "{#", "#}", "for ", "if ", "elif ", "else", "endif", "endfor", "set ", "in ", "messages",
        "message['role']", "loop.first", "loop(", "raise_exception(", "|trim", "|tojson", "~", "+", "==", "'", "\"", "\\",
        "(", ")", "[", "]", "[1:]", "[::-1]", "is defined", "not ", "and ", "or ", "namespace(", "macro ", "endmacro", "call ", "endcall",
        "recursive", "filter ", "with ", "raw", "endraw", "generation", "break", "continue", "range(99999)", " ** 99", " * 999999",
        "|list", "|map('", "|sort", "|replace('", "|join", ".items()", ".split(", ".format(", "'%9d' % ", "9999999999999999999", "1e308", "0x", "\n",
        "{", "}", ":", ",", "=", "*", "**", "\u00e9", "\ud83d\udea2",
    }.Select(Encoding.UTF8.GetBytes)];

    public override Gen<byte[]> Structure { get; } = Nested(4).Bytes();

    public override void Read(byte[] input)
    {
        string source = Encoding.UTF8.GetString(input);
        JinjaTemplate template = JinjaTemplate.Parse(source);
        bool spells = source.AsSpan().ContainsAny('\\', '\uE000', '\uE001');
        JinjaRendering rendering = template.Render(s_variables, TimeProvider.System, s_limits);
        int at = 0;
        foreach (JinjaSpan span in rendering.Spans)
        {
            Promise(span.Start == at && span.Length > 0, "the spans of a rendering cover it in order");
            at += span.Length;
            Promise(spells || span.IsContent || !rendering.Text.AsSpan(span.Start, span.Length).ContainsAny('\uE000', '\uE001'),
                "text of a message is content");
        }

        Promise(at == rendering.Text.Length, "the spans of a rendering cover all of it");
    }

    private static Dictionary<string, JinjaValue> Variables()
    {
        using JsonDocument given = JsonDocument.Parse($$$"""
            {"messages": [{"role": "system", "content": "{{{Secret}}}"}, {"role": "user", "content": " a {{{Secret}}}\n"},
              {"role": "assistant", "content": "b", "tool_calls": [{"n": 1.5}]}],
             "tools": [{"name": "{{{Secret}}}", "kids": [{"name": "k", "kids": []}]}], "x": 3, "s": "{{{Secret}}} t",
             "d": {"{{{Secret}}}": null, "a": true}}
            """);
        var variables = given.RootElement.EnumerateObject().ToDictionary(static p => p.Name, static p => JinjaValue.FromJson(p.Value));
        variables["bos_token"] = JinjaValue.TemplateText("<s>");
        variables["eos_token"] = JinjaValue.TemplateText("</s>");
        variables["add_generation_prompt"] = JinjaValue.Of(true);
        return variables;
    }

    private static Gen<string> Nested(int depth)
    {
        Gen<string> name = Gen.Elements("messages", "m", "tools", "x", "s", "d", "missing", "m.content", "m['role']", "ns.a", "loop", "loop.index",
            "messages[-1]");
        Gen<string> literal = Gen.Elements("1", "0", "-3", "2.5", "'a'", "'{%'", "\"a\\n\"", "''", "true", "none", "[]", "{}", "[1, 'b', none]",
            "{'k': x}", "(1, s)", "99999", "range(5)");
        Gen<string> filter = Gen.Elements(
            "trim", "upper", "tojson", "length", "list", "string", "join(s)", "sort", "unique", "first", "last", "map('upper')",
            "map(attribute='content')", "select", "selectattr('role')", "items", "dictsort", "reverse", "batch(2)", "slice(3)", "groupby('role')",
            "replace('a', s)", "int", "float", "round(1)", "abs", "sum", "min", "max", "default(s)", "indent(2)", "e", "safe", "center(9)",
            "truncate(5)", "title", "format(x)", "wordcount", "urlencode", "tojson(indent=1)", "pprint", "nope");
        Gen<string> method = Gen.Elements(
            ".strip()", ".split()", ".split('a')", ".upper()", ".items()", ".get('a')", ".keys()", "[0]", "[-1]", "[1:]", "[::-1]", "['a']",
            ".content", ".append(1)", ".__class__", ".format(x, s)", ".replace('a', 'b')", ".join(messages)", ".startswith('a')", "()", "(x, a=1)");
        Gen<string> simple = Gen.OneOf(name, literal);
        Gen<string> expression = Gen.Frequency(
            (3, simple), (3, simple.Zip(filter, static (e, f) => $"{e} | {f}")), (2, simple.Zip(method, static (e, m) => e + m)),
            (1, filter.Two().Zip(simple, static (f, e) => $"{e} | {f.Item1} | {f.Item2}")),
            (2, simple.Two().Zip(Gen.Elements("+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "not in", "and", "or", "if x else"),
                static (e, op) => $"({e.Item1} {op} {e.Item2})")),
            (1, simple.Zip(Gen.Elements("defined", "none", "string", "mapping", "iterable", "odd", "in s", "not eq(1)", "nope"),
                static (e, t) => $"{e} is {t}")), (1, simple.Select(static e => $"not -{e}")), (1, Gen.Elements("(", ")", "|", "'", "1 2")));
        Gen<string> leaf = Gen.OneOf(
            Gen.Elements("text", "\n", " ", "{", "}}", "{# c #}", "{%", "{% break %}", "{% raw %}{{{% endraw %}"),
            expression.Select(static e => $"{{{{ {e} }}}}"), expression.Select(static e => $"{{%- set a = {e} -%}}"),
            expression.Select(static e => $"{{% set ns.a = {e} %}}"), Gen.Constant("{% set ns = namespace(a=1) %}"));
        if (depth == 0)
        {
            return leaf;
        }

        Gen<string> inner = Gen.Choose(0, 3).SelectMany(n => Gen.ArrayOf(Nested(depth - 1), n)).Select(string.Concat);
        return Gen.Frequency(
            (2, leaf), (2, expression.Zip(inner, static (e, i) => $"{{% for m in {e} %}}{i}{{% endfor %}}")),
            (2, expression.Zip(inner, static (e, i) => $"{{% if {e} %}}{i}{{% endif %}}")),
            (1, expression.Two().Zip(inner.Two(), static (e, i) => $"{{% if {e.Item1} == {e.Item2} %}}{i.Item1}{{% else %}}{i.Item2}{{% endif %}}")),
            (1, inner.Select(static i => i + "{% endif %}")),
            (1, expression.Zip(inner, static (e, i) => $"{{% macro f(m, x={e}) %}}{i}{{{{ caller() }}}}{{{{ f(m) }}}}{{% endmacro %}}{{{{ f({e}) }}}}"
                + $"{{% call f(1) %}}{i}{{% endcall %}}")),
            (1, expression.Zip(inner, static (e, i) => $"{{% for m in {e} recursive %}}{i}{{{{ loop(m) }}}}{{% else %}}{i}{{% endfor %}}")),
            (1, inner.Select(static i => $"{{% set a %}}{i}{{% endset %}}{{{{ a }}}}")),
            (1, filter.Zip(inner, static (f, i) => $"{{% filter {f} %}}{i}{{% endfilter %}}")),
            (1, inner.Select(static i => $"{{% with m = s %}}{i}{{% endwith %}}{{% generation %}}{i}{{% endgeneration %}}"
                + $"{{% block b %}}{i}{{% endblock %}}")));
    }
}
