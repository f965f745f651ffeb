using Tiller.Checkpoint;

namespace Tiller.Tool;

/// <summary>
/// The destination of an option that takes a file: the file, or standard output if it is named - or by a path such as /dev/stdout. Standard output
/// carries only one thing: if it carries data, everything else goes to standard error. Conflicts are refused before any work.
/// </summary>
internal sealed class Destination
{
    /// <summary>The name of standard output.</summary>
    public const string StandardOutput = "-";

    private readonly Terminal _terminal;
    private readonly string _option;
    private readonly string _path;

    private Destination(Terminal terminal, string option, string path)
    {
        _terminal = terminal;
        _option = option;
        _path = path;
        IsOutput = path == StandardOutput || OutputFile.IsStandardOutput(path);
        Rest = IsOutput ? terminal.WithoutOutput() : terminal;
    }

    /// <summary>Whether it is standard output.</summary>
    public bool IsOutput { get; }

    /// <summary>The terminal for everything except the data.</summary>
    public Terminal Rest { get; }

    /// <summary>Name of the destination, for messages.</summary>
    public string Name => IsOutput ? "standard output" : _path;

    /// <summary>Creates a destination, and refuses before any work one that could not be written.</summary>
    /// <param name="terminal">The command's terminal.</param>
    /// <param name="option">The name of the option.</param>
    /// <param name="path">The value of the option.</param>
    /// <param name="isText">Whether the data is text.</param>
    /// <param name="json">Whether --json writes to standard output.</param>
    /// <param name="read">The files that the command reads, null for none.</param>
    /// <exception cref="UsageException">
    /// Standard output is already used, or is a terminal and the data is not text; or a file that is read would be replaced.
    /// </exception>
    /// <exception cref="IOException">The path is a folder, its folder does not exist, or its links form a loop.</exception>
    public static Destination Of(Terminal terminal, string option, string path, bool isText, bool json, params IEnumerable<string?> read)
    {
        var destination = new Destination(terminal, option, path);
        if (!destination.IsOutput)
        {
            destination.Try(() => OutputFile.Check(path));
            return read.Any(file => file is not null && OutputFile.Replaces(path, file))
                ? throw new UsageException($"{option} {path} would replace a file that the command reads: give {option} another name.")
                : destination;
        }

        if (json)
        {
            throw new UsageException($"{option} {path} and --json would both write to standard output: give {option} a file, or leave --json out.");
        }

        return isText || !terminal.OutputIsTerminal
            ? destination
            : throw new UsageException(
                $"{option} {path} would write binary data to a terminal: redirect standard output, or give {option} a file (one named - is ./-).");
    }

    /// <summary>The same destination, if the data of others does not go there too.</summary>
    /// <exception cref="UsageException">It does.</exception>
    public Destination Beside(IEnumerable<Destination> others) =>
        others.FirstOrDefault(other => IsOutput ? other.IsOutput : !other.IsOutput && OutputFile.Replaces(_path, other._path)) is { } same
            ? throw new UsageException($"{_option} and {same._option} name the same place: give each a file of its own.")
            : this;

    /// <summary>Writes the data, to a file completely or not at all.</summary>
    /// <exception cref="IOException">The data cannot be written.</exception>
    public void Write(Action<Stream> write) => Write(path => OutputFile.Write(path, write), write);

    /// <summary>Writes the data to the path or to the stream.</summary>
    /// <exception cref="IOException">The data cannot be written.</exception>
    public void Write(Action<string> toFile, Action<Stream> toStream)
    {
        if (!IsOutput)
        {
            toFile(_path);
            return;
        }

        Try(() =>
        {
            using var buffer = new BufferedStream(_terminal.Data, 1 << 16);
            toStream(buffer);
        });
    }

    private void Try(Action write)
    {
        try
        {
            write();
        }
        catch (IOException e)
        {
            throw new IOException($"{_option}: {e.Message}", e);
        }
    }
}
