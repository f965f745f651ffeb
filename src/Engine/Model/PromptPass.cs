using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Model;

/// <summary>Sees every row of a pass before block <paramref name="k"/>; k = L is what leaves the last block.</summary>
/// <param name="pass">
/// The pass: <see cref="PromptPass.Rows"/> tells which tokens, <see cref="Activations.X"/> of its activations holds their states.
/// </param>
/// <param name="k">0..L.</param>
/// <returns>Whether to go on; false ends the pass.</returns>
internal delegate bool StateVisitor(PromptPass pass, int k);

/// <summary>
/// Runs prompts through the blocks in passes of bounded rows, which bounds the scratch. Rows of several prompts of any lengths share a pass
/// without padding; a row's result does not depend on the pass that it is in beyond rounding.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="a">Scratch, which grows as passes need it; stays the caller's.</param>
/// <param name="maxRows">Rows of one pass at most.</param>
internal sealed class PromptPass(LanguageModel model, Activations a, int maxRows = PromptPass.DefaultRows)
{
    /// <summary>Rows of one pass, unless another number is given.</summary>
    public const int DefaultRows = 256;

    /// <summary>The pass being filled, or the last one that was run.</summary>
    public RowBatch Rows { get; } = new();

    /// <summary>What the pass leaves behind.</summary>
    public Activations A => a;

    /// <summary>Whether there is no room for another row.</summary>
    public bool IsFull => Rows.Values >= maxRows;

    /// <summary>Makes a pass of the tokens of one sequence from <paramref name="begin"/> on, as many as it has room for.</summary>
    /// <param name="ids">Tokens of the sequence.</param>
    /// <param name="begin">The first that no pass has run.</param>
    /// <param name="position">Where ids[0] stands.</param>
    /// <param name="cache">Keys and values of the sequence, with room for all of them.</param>
    /// <param name="steered">What moves which of them; the default is the plain model.</param>
    public void Fill(ReadOnlySpan<int> ids, int begin, int position, KvCache cache, SteeredSequence steered = default)
    {
        int count = steered.OneByOne ? 1 : maxRows;
        Rows.Clear();
        for (int i = begin; i < Math.Min(begin + count, ids.Length); i++)
        {
            Rows.Add(ids[i], position + i, cache, steered.At(position + i, ids[i]));
        }
    }

    /// <summary>Runs the rows through all blocks; their last states are then in <see cref="Activations.X"/>.</summary>
    /// <param name="visit">Sees the states on the way; null for nobody.</param>
    /// <param name="cancellationToken">Checked between blocks; stages leave out what they have not begun.</param>
    /// <returns>False if the visitor ended it.</returns>
    public bool Run(StateVisitor? visit, CancellationToken cancellationToken)
    {
        a.Reserve(Rows.Total);
        Rows.Cancellation = cancellationToken;
        cancellationToken.ThrowIfCancellationRequested();
        model.Embed(Rows, a);
        for (int k = 0; visit?.Invoke(this, k) ?? true; k++)
        {
            if (k == model.Config.L)
            {
                return true;
            }

            model.Forward(k, Rows, a);
            cancellationToken.ThrowIfCancellationRequested();
            a.Advance();
        }

        return false;
    }
}
