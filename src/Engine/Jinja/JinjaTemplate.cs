using System.Runtime.CompilerServices;

namespace Tiller.Jinja;

/// <summary>A piece of a rendered text.</summary>
/// <param name="Start">First UTF-16 unit.</param>
/// <param name="Length">Number of UTF-16 units.</param>
/// <param name="IsContent">Whether the characters come from a variable. If not, they are the template's own or a special token's.</param>
public readonly record struct JinjaSpan(int Start, int Length, bool IsContent);

/// <summary>A rendered text and the origin of its characters.</summary>
public sealed class JinjaRendering
{
    private readonly Text whole;

    internal JinjaRendering(Text text)
    {
        whole = text;
        Text = text.Value;
        var spans = new List<JinjaSpan>(text.Changes.Length + 1);
        int start = 0;
        bool content = false;
        foreach (int change in text.Changes)
        {
            if (change > start)
            {
                spans.Add(new JinjaSpan(start, change - start, content));
            }

            start = change;
            content = !content;
        }

        if (text.Length > start)
        {
            spans.Add(new JinjaSpan(start, text.Length - start, content));
        }

        Spans = spans;
    }

    /// <summary>The text.</summary>
    public string Text { get; }

    /// <summary>Spans that cover the text, in order. Adjacent spans differ in their origin.</summary>
    public IReadOnlyList<JinjaSpan> Spans { get; }

    /// <summary>The beginning of the text up to a length, with the same origins.</summary>
    internal JinjaRendering Until(int end) => new(whole.Slice(0, end));
}

/// <summary>
/// A Jinja template, rendered as transformers renders chat templates (jinja2 3.1): with trim_blocks, lstrip_blocks, loop controls, generation blocks,
/// its tojson, raise_exception and strftime_now, in an immutable sandbox. It is parsed once; immutable and thread-safe.
/// </summary>
public sealed class JinjaTemplate
{
    private readonly Statement[] body;
    private readonly FunctionBody function;
    private readonly Scope scope;
    private readonly string[] given;

    private JinjaTemplate(Statement[] body, FunctionBody function, Scope scope, string[] given)
    {
        this.body = body;
        this.function = function;
        this.scope = scope;
        this.given = given;
        Variables = given;
    }

    /// <summary>Names that the template reads but does not set: variables that a caller may supply, and functions that every template has.</summary>
    public IReadOnlyList<string> Variables { get; }

    /// <summary>Parses a template.</summary>
    /// <param name="source">Text of the template. One newline at its end is dropped.</param>
    /// <exception cref="JinjaException">
    /// The template is not well-formed, nests more than 100 levels deep, or uses a feature that is not implemented.
    /// </exception>
    public static JinjaTemplate Parse(string source)
    {
        ArgumentNullException.ThrowIfNull(source);
        (Statement[] body, bool hasBlocks) = Parser.Parse(source);
        (FunctionBody function, Scope scope, string[] given) = Binder.Bind(body, hasBlocks);
        return new JinjaTemplate(body, function, scope, given);
    }

    /// <summary>Renders the template.</summary>
    /// <param name="variables">The template's variables, by name.</param>
    /// <param name="clock">The clock of strftime_now, read in its local time zone; null for the system's.</param>
    /// <param name="limits">Limits of the rendering; null for <see cref="JinjaLimits.Default"/>.</param>
    /// <param name="cancellationToken">Checked every 65,536 steps.</param>
    /// <exception cref="JinjaException">The template fails on these values, refuses them, or exceeds the limits.</exception>
    public JinjaRendering Render(
        IReadOnlyDictionary<string, JinjaValue> variables, TimeProvider? clock = null, JinjaLimits? limits = null,
            CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(variables);
        var outside = new JinjaValue?[given.Length];
        for (int i = 0; i < given.Length; i++)
        {
            outside[i] = variables.TryGetValue(given[i], out JinjaValue? value) ? value : Functions.Find(given[i]);
        }

        var run = new Run(limits ?? JinjaLimits.Default, clock ?? TimeProvider.System, cancellationToken)
        {
            Outside = outside,
            Shared = new JinjaValue?[given.Length],
        };
        var to = new TextBuilder(run);
        Frame frame = function.NewFrame(null, run);
        try
        {
            RuntimeHelpers.EnsureSufficientExecutionStack();
            scope.Enter(frame, run);
            Statement.Exec(body, frame, to, run);
            return new JinjaRendering(to.ToText());
        }
        catch (InsufficientExecutionStackException)
        {
            throw new JinjaException(JinjaError.Recursion, "Values or calls nest deeper than the stack of this thread.", run.Line);
        }
        catch (JinjaException e) when (e.Line == 0)
        {
            e.Line = run.Line;
            throw;
        }
    }
}
