using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>The prompts of a fit as ids, and the blocks in which they are run and divided among shards.</summary>
/// <param name="Form">The form of all prompts.</param>
/// <param name="Ids">Positive, negative, calibration, alternative, nominal and held-out prompts; an empty list for none.</param>
/// <param name="Averaged">The lists whose Jacobians are averaged, one after another; none if the method solves for no gains.</param>
/// <param name="AveragesContrast">Whether these are the contrast prompts.</param>
internal sealed record FitLists(PromptForm Form, int[][][] Ids, IReadOnlyList<int[][]> Averaged, bool AveragesContrast)
{
    /// <summary>The other lists whose prompts' states are needed.</summary>
    public IReadOnlyList<int[][]> Others { get; } = OthersOf(Ids, Averaged);

    /// <summary>The lists whose prompts' states are needed, those that are averaged first.</summary>
    public IReadOnlyList<int[][]> Run { get; } = [.. Averaged, .. OthersOf(Ids, Averaged)];

    /// <summary>Blocks of the prompts whose Jacobians are averaged.</summary>
    public IReadOnlyList<Range> Blocks { get; } = PromptBlocks.Of([.. Averaged.Select(list => list.Length)]);

    /// <summary>Encodes the prompts of a fit.</summary>
    /// <exception cref="TillerException">They are not all of one form, or a prompt cannot be encoded or is too long.</exception>
    public static FitLists Of(LanguageModel model, ContrastSet contrast, FitOptions options, CancellationToken cancellationToken)
    {
        var encoder = PromptEncoder.Of(model);
        (string Name, IReadOnlyList<Prompt> Prompts)[] lists =
        [
            ("Positive", contrast.Positive), ("Negative", contrast.Negative), ("Calibration", options.Calibration ?? []),
            ("Alternative", options.Alternative ?? []), ("Nominal", options.Nominal is { } nominal ? [nominal] : []),
            ("Held-out", options.HeldOut ?? []),
        ];
        var form = encoder.FormOf(lists);
        int[][][] ids = [.. lists.Select(list => encoder.Encode(list.Name, list.Prompts, cancellationToken))];
        bool solves = options.Method.Takes(FitInputs.Gains), own = solves && options.Calibration is null;
        return new FitLists(form, ids, !solves ? [] : own ? ids[..2] : [ids[2]], own);
    }

    /// <summary>The part of each of the lists to be run that a shard runs: whole blocks of them.</summary>
    public IReadOnlyList<Range> Of(Shard shard) => [.. Divide(Averaged, shard), .. Divide(Others, shard)];

    // All but the held-out ones, which are run with a controller.
    private static int[][][] OthersOf(int[][][] ids, IReadOnlyList<int[][]> averaged) =>
        [.. ids[..^1].Except(averaged).Where(list => list.Length > 0)];

    private static IEnumerable<Range> Divide(IReadOnlyList<int[][]> lists, Shard shard)
    {
        Range[] own = [.. PromptBlocks.Of([.. lists.Select(list => list.Length)])];
        own = own[shard.Of(own.Length)];
        var (begin, end) = own.Length == 0 ? (0, 0) : (own[0].Start.Value, own[^1].End.Value);
        int first = 0;
        foreach (int[][] list in lists)
        {
            int from = Math.Clamp(begin - first, 0, list.Length);
            yield return from..Math.Clamp(end - first, from, list.Length);
            first += list.Length;
        }
    }
}
