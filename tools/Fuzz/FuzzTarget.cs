using FsCheck;
using Tiller.Fuzz.Targets;

namespace Tiller.Fuzz;

/// <summary>Something the reader promises of what it accepts does not hold.</summary>
internal sealed class BrokenPromiseException(string message) : Exception(message);

/// <summary>A reader under attack. It may accept an input or refuse it with a <see cref="TillerException"/>; anything else is a finding.</summary>
internal abstract class FuzzTarget
{
    /// <summary>Name on the command line.</summary>
    public abstract string Name { get; }

    /// <summary>Sound inputs that mutation begins with, made from the goldens.</summary>
    public abstract IReadOnlyList<byte[]> Seeds { get; }

    /// <summary>Pieces that mean something to this reader, for mutation to put in.</summary>
    public abstract IReadOnlyList<byte[]> Words { get; }

    /// <summary>Inputs of the reader's own form with hostile parts.</summary>
    public abstract Gen<byte[]> Structure { get; }

    /// <summary>Makes lengths and checksums fit again, so that a mutation gets past them.</summary>
    public virtual byte[] Repair(byte[] input) => input;

    /// <summary>Reads an input, and checks what must hold of one that is accepted.</summary>
    public abstract void Read(byte[] input);

    /// <summary>Every target, and those that fail on purpose.</summary>
    /// <param name="corpus">The goldens: a folder of folders, each with a checkpoint.</param>
    public static IReadOnlyList<FuzzTarget> All(string corpus)
    {
        var goldens = new Corpus(corpus);
        return
        [
            new SafetensorsTarget(goldens), new IndexTarget(goldens), new ConfigTarget(goldens), new TokenizerTarget(goldens),
            new ControllerTarget(), new TextTarget(goldens), new PromptsTarget(), new TemplateTarget(goldens),
            .. FaultyTarget.Kinds.Select(kind => new FaultyTarget(kind)),
        ];
    }

    /// <summary>Names of every target.</summary>
    public static IReadOnlyList<string> Names { get; } = ["safetensors", "index", "config", "tokenizer", "controller", "text", "prompts", "template"];

    protected static void Promise(bool holds, string what)
    {
        if (!holds)
        {
            throw new BrokenPromiseException(what);
        }
    }
}
