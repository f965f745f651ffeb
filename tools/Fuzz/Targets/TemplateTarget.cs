using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Tokens;

namespace Tiller.Fuzz.Targets;

/// <summary>A chat template: its Jinja text is cut, reduced to the canonical form and compared with the known ones.</summary>
internal sealed class TemplateTarget(Corpus corpus) : FuzzTarget
{
    public override string Name => "template";

    public override IReadOnlyList<byte[]> Seeds { get; } = [.. corpus.Files("chat_template.jinja"), "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"u8.ToArray()];

    public override IReadOnlyList<byte[]> Words { get; } = [.. new[]
    {
        "{{", "}}", "{%", "%}", "{%-", "-%}", "{#", "#}", "for ", "if ", "elif ", "else", "endif", "endfor", "set ", "in ", "messages", "message['role']", "loop.first", "raise_exception(", "|trim", "~", "+", "==", "'", "\"", "\\", "(", ")",
        "[", "]", "[1:]", "is defined", "not ", "and ", "or ", "namespace(", "macro ", "\n", "{",
    }.Select(Encoding.UTF8.GetBytes)];

    public override Gen<byte[]> Structure { get; } = Nested(4).Bytes();

    public override void Read(byte[] input)
    {
        string program = ChatProgram.Of(Encoding.UTF8.GetString(input));
        _ = KnownTemplates.Find(program, TimeProvider.System);
    }

    private static Gen<string> Nested(int depth)
    {
        Gen<string> expression = Gen.Elements("messages", "m['role']", "m.content", "'user'", "\"a\\n\"", "loop.first", "1", "m['content'] | trim", "a + b", "not x", "x is defined", "(", ")", "''", "messages[1:]", "'{%'");
        Gen<string> leaf = Gen.OneOf(
            Gen.Elements("text", "\n", " ", "{", "}}", "{# c #}", "{%"), expression.Select(e => $"{{{{ {e} }}}}"), expression.Select(e => $"{{%- set a = {e} -%}}"),
            expression.Two().Select(e => $"{{{{ {e.Item1} + {e.Item2} }}}}"));
        if (depth == 0)
        {
            return leaf;
        }

        Gen<string> inner = Gen.Choose(0, 3).SelectMany(n => Gen.ArrayOf(Nested(depth - 1), n)).Select(string.Concat);
        return Gen.Frequency(
            (2, leaf), (2, inner.Select(i => $"{{% for m in messages %}}{i}{{% endfor %}}")), (2, expression.Zip(inner, (e, i) => $"{{% if {e} %}}{i}{{% endif %}}")),
            (1, expression.Two().Zip(inner.Two(), (e, i) => $"{{% if {e.Item1} == {e.Item2} %}}{i.Item1}{{% else %}}{i.Item2}{{% endif %}}")), (1, inner.Select(i => i + "{% endif %}")));
    }
}
