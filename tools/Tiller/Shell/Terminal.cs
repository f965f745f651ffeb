using Spectre.Console;

namespace Tiller.Tool;

/// <summary>
/// Where a command reads and writes: results on <see cref="Output"/>, everything else on <see cref="Error"/>. Colour and live progress
/// only on a terminal, and only while NO_COLOR is unset (no-color.org).
/// </summary>
internal sealed class Terminal
{
    private readonly Stream? _data;

    /// <summary>Takes the streams of a run.</summary>
    /// <param name="input">Standard input, read when a prompt comes from it.</param>
    /// <param name="inputIsTerminal">Whether someone would have to type the input.</param>
    /// <param name="output">Standard output.</param>
    /// <param name="outputIsLive">Whether output goes to a terminal that may be coloured.</param>
    /// <param name="error">Standard error.</param>
    /// <param name="errorIsLive">Whether errors go to a terminal that may be coloured and redrawn.</param>
    public Terminal(Stream input, bool inputIsTerminal, TextWriter output, bool outputIsLive, TextWriter error, bool errorIsLive)
    {
        Input = input;
        InputIsTerminal = inputIsTerminal;
        Output = output;
        Error = error;
        OutputIsLive = outputIsLive;
        ErrorIsLive = errorIsLive;
        OutputIsTerminal = outputIsLive;
        StyledOutput = Styled(output, outputIsLive);
        StyledError = Styled(error, errorIsLive);
    }

    public Stream Input { get; }

    public bool InputIsTerminal { get; }

    public TextWriter Output { get; }

    public bool OutputIsLive { get; }

    /// <summary>Whether output goes to a terminal, coloured or not: control characters in texts must not reach it.</summary>
    public bool OutputIsTerminal { get; init; }

    /// <summary>Told of every stage's progress where no bars show it: what a caller waits for, or cancels on. Null for nobody.</summary>
    public Action<StageProgress>? OnStage { get; init; }
    /// <summary>Standard output for data that is not text, which a command writes instead of anything to <see cref="Output"/>.</summary>
    public Stream Data
    {
        get => _data ?? throw new InvalidOperationException("This terminal was given no stream for data.");
        init => _data = value;
    }

    public TextWriter Error { get; }

    public bool ErrorIsLive { get; }

    /// <summary>Tables and markup on <see cref="Output"/>.</summary>
    public IAnsiConsole StyledOutput { get; }

    /// <summary>Progress and markup on <see cref="Error"/>.</summary>
    public IAnsiConsole StyledError { get; }

    /// <summary>The process's own streams.</summary>
    public static Terminal OfProcess()
    {
        bool colour = string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));
        return new Terminal(
            Console.OpenStandardInput(),
            !Console.IsInputRedirected,
            Console.Out,
            colour && !Console.IsOutputRedirected,
            Console.Error,
            colour && !Console.IsErrorRedirected)
        {
            OutputIsTerminal = !Console.IsOutputRedirected,
            Data = Console.OpenStandardOutput(),
        };
    }

    /// <summary>A line on <see cref="Error"/> of something that the run goes on in spite of.</summary>
    public void Warn(string warning) => Error.WriteLine($"tiller: warning: {VisibleText.Of(OptionNames.Of(warning))}");

    /// <summary>
    /// This terminal while data has standard output: results go to standard error like everything else, where texts are always made visible.
    /// </summary>
    public Terminal WithoutOutput() => new(Input, InputIsTerminal, Error, ErrorIsLive, Error, ErrorIsLive)
    {
        OutputIsTerminal = true,
        OnStage = OnStage,
    };

    private static IAnsiConsole Styled(TextWriter writer, bool live) => AnsiConsole.Create(new AnsiConsoleSettings
    {
        Ansi = live ? AnsiSupport.Detect : AnsiSupport.No,
        ColorSystem = live ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
        Interactive = live ? InteractionSupport.Detect : InteractionSupport.No,
        Out = new AnsiConsoleOutput(writer),
    });
}
