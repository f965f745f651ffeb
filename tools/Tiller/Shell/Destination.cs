using Tiller.Checkpoint;

namespace Tiller.Tool;

/// <summary>
/// Where an option that takes a file sends its data: the file, or standard output as - or as what names it (/dev/stdout). Standard output
/// carries one thing: with data on it everything else goes to standard error, and what cannot is refused before any work.
/// </summary>
internal sealed class Destination
{
    /// <summary>The name of standard output.</summary>
    public const string StandardOutput = "-";

    private readonly Terminal _terminal;
    private readonly string _option;
    private readonly string _path;
    private readonly bool _isOutput;

    private Destination(Terminal terminal, string option, string path)
    {
        _terminal = terminal;
        _option = option;
        _path = path;
        _isOutput = path == StandardOutput || OutputFile.IsStandardOutput(path);
        Rest = _isOutput ? terminal.WithoutOutput() : terminal;
    }

    /// <summary>Where the command tells everything else.</summary>
    public Terminal Rest { get; }

    /// <summary>How the place is told.</summary>
    public string Name => _isOutput ? "standard output" : _path;

    /// <summary>Refuses, before any work, what could not be written after it.</summary>
    /// <param name="terminal">Of the command.</param>
    /// <param name="option">The option that names the place.</param>
    /// <param name="path">What it was given.</param>
    /// <param name="isText">Whether people can read the data.</param>
    /// <param name="json">Whether --json has standard output.</param>
    /// <exception cref="UsageException">Standard output is taken, or is a terminal and the data is not text.</exception>
    /// <exception cref="IOException">The path is a folder, its folder does not exist, or its links form a loop.</exception>
    public static Destination Of(Terminal terminal, string option, string path, bool isText, bool json)
    {
        var destination = new Destination(terminal, option, path);
        if (!destination._isOutput)
        {
            destination.Try(() => OutputFile.Check(path));
            return destination;
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

    /// <summary>Writes the data, by path or as a stream.</summary>
    /// <exception cref="IOException">Standard output takes no more.</exception>
    public void Write(Action<string> toFile, Action<Stream> toStream)
    {
        if (!_isOutput)
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
