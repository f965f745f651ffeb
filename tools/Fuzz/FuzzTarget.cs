using FsCheck;
using Tiller.Fuzz.Targets;

namespace Tiller.Fuzz;

/// <summary>A property that a reader guarantees for accepted inputs does not hold.</summary>
internal sealed class BrokenPromiseException(string message) : Exception(message);

/// <summary>A reader to attack. It may accept an input or refuse it with a <see cref="TillerException"/>. Anything else is a finding.</summary>
internal abstract class FuzzTarget
{
    /// <summary>Name on the command line.</summary>
    public abstract string Name { get; }

    /// <summary>Valid inputs from the golden values, with which mutation begins.</summary>
    public abstract IReadOnlyList<byte[]> Seeds { get; }

    /// <summary>Keywords of this reader's format, which mutation inserts.</summary>
    public abstract IReadOnlyList<byte[]> Words { get; }

    /// <summary>Generates inputs of the reader's format with hostile parts.</summary>
    public abstract Gen<byte[]> Structure { get; }

    /// <summary>Repairs lengths and checksums, so that a mutation passes their checks.</summary>
    public virtual byte[] Repair(byte[] input) => input;

    /// <summary>Reads an input, and checks the guarantees for an accepted one.</summary>
    public abstract void Read(byte[] input);

    /// <summary>All targets, including those that fail on purpose.</summary>
    /// <param name="corpus">The golden values: a folder of folders, each with a checkpoint.</param>
    public static IReadOnlyList<FuzzTarget> All(string corpus)
    {
        var goldens = new Corpus(corpus);
        return
        [
            new SafetensorsTarget(goldens), new IndexTarget(goldens), new ConfigTarget(goldens), new TokenizerTarget(goldens),
            new ControllerTarget(), new TextTarget(goldens), new PromptsTarget(), new ParquetTarget(), new TemplateTarget(goldens),
            new RequestTarget(goldens), new VectorTarget(),
            .. FaultyTarget.Kinds.Select(kind => new FaultyTarget(kind)),
        ];
    }

    /// <summary>Names of all targets.</summary>
    public static IReadOnlyList<string> Names { get; } =
        ["safetensors", "index", "config", "tokenizer", "controller", "text", "prompts", "parquet", "template", "request", "vector"];

    protected static void Promise(bool holds, string what)
    {
        if (!holds)
        {
            throw new BrokenPromiseException(what);
        }
    }
}
