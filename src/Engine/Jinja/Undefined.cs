namespace Tiller.Jinja;

/// <summary>
/// The value of a name, key or attribute that does not exist. It is false, prints as nothing and has no items; most other uses fail.
/// </summary>
internal sealed class Undefined : JinjaValue
{
    private readonly string? detail;
    private readonly JinjaError code = JinjaError.Undefined;
    private readonly JinjaValue? owner;
    private readonly JinjaValue? key;

    public Undefined(string detail, JinjaError code = JinjaError.Undefined)
    {
        this.detail = detail;
        this.code = code;
    }

    private Undefined(JinjaValue owner, JinjaValue key)
    {
        this.owner = owner;
        this.key = key;
    }

    internal override string TypeName => "Undefined";

    // Jinja's class defines __call__, which fails.
    internal override bool IsCallable => true;

    public static Undefined Name(string name) => new($"'{name}' is undefined");

    public static Undefined Member(JinjaValue of, JinjaValue key) => new(of, key);

    /// <summary>The value of an attribute that the sandbox hides.</summary>
    public static Undefined Unsafe(JinjaValue of, string name) =>
        new($"access to attribute '{Shorten(name)}' of '{of.TypeName}' object is unsafe.", JinjaError.Security);

    public JinjaException Error()
    {
        if (detail is not null)
        {
            return new JinjaException(code, detail);
        }

        string what = owner is NoneValue ? "None" : owner!.TypeName + " object";
        return JinjaException.Undefined(key switch
        {
            Text name => $"'{what}' has no attribute '{Shorten(name.Value)}'",
            Int number => $"{what} has no element {number.Number}",
            _ => $"{what} has no element of this {key!.TypeName}",
        });
    }

    internal override bool IsTrue(Run run) => false;

    internal override int? Len(Run run) => 0;

    internal override void Str(TextBuilder to)
    {
    }

    internal override void Repr(TextBuilder to, bool content) => to.Append("Undefined", content);

    internal override IEnumerator<JinjaValue> Iterate(Run run) => ((IEnumerable<JinjaValue>)[]).GetEnumerator();

    internal override JinjaValue? Attribute(string name, Run run) => throw Error();

    internal override JinjaValue? Item(JinjaValue key, Run run) => throw Error();

    internal override JinjaValue Cut(Indexes indexes, Run run) => throw Error();

    internal override JinjaValue Call(Arguments arguments, Run run) => throw Error();

    private static string Shorten(string text) => text.Length <= 80 ? text : text[..79] + "…";
}
