using Spectre.Console;

namespace Tiller.Tool;

/// <summary>
/// The streams of a command: results go to <see cref="Output"/>, everything else to <see cref="Error"/>. Colour and live progress are shown only on a
/// terminal, and only if NO_COLOR is not set (no-color.org).
/// </summary>
internal sealed class Terminal
{
    private readonly Stream? _data;

    /// <summary>Creates a terminal from the streams of a run.</summary>
    /// <param name="input">Standard input, which is read if the prompt comes from it.</param>
    /// <param name="inputIsTerminal">Whether the input is typed at a terminal.</param>
    /// <param name="output">Standard output.</param>
    /// <param name="outputIsLive">Whether the output is a terminal that may show colour.</param>
    /// <param name="error">Standard error.</param>
    /// <param name="errorIsLive">Whether the error stream is a terminal that may show colour and be redrawn.</param>
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

    /// <summary>Whether the output is a terminal, with or without colour. Control characters in texts must not reach a terminal.</summary>
    public bool OutputIsTerminal { get; init; }

    /// <summary>Receives the progress of every stage if no bars are shown; tests wait or cancel here. May be null.</summary>
    public Action<StageProgress>? OnStage { get; init; }
    /// <summary>Standard output as a stream, for data. A command that writes here must write nothing to <see cref="Output"/>.</summary>
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

    /// <summary>Creates the terminal of this process.</summary>
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

    /// <summary>Writes a warning to <see cref="Error"/>. The run continues.</summary>
    public void Warn(string warning) => Error.WriteLine($"tiller: warning: {VisibleText.Of(OptionNames.Of(warning))}");

    /// <summary>
    /// A terminal for a command that writes data to standard output. Results go to standard error too, where control characters are always made
    /// visible.
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
