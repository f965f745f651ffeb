using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Model;

/// <summary>Visits the rows of a pass before block <paramref name="k"/>; for k = L, after the last block.</summary>
/// <param name="pass">
/// The pass. <see cref="PromptPass.Rows"/> are its tokens, and <see cref="Activations.X"/> of its activations holds their states.
/// </param>
/// <param name="k">Index of the block, 0..L.</param>
/// <returns>Whether to continue; false ends the pass.</returns>
internal delegate bool StateVisitor(PromptPass pass, int k);

/// <summary>
/// Runs prompts through the blocks in passes with a bounded number of rows, which bounds the scratch memory. Rows of several prompts of any lengths
/// share a pass without padding. Up to rounding, a row's result does not depend on its pass.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="a">Scratch memory, which grows as passes need it. The caller keeps ownership.</param>
/// <param name="maxRows">Maximum number of rows in a pass; null for the device's choice, <see cref="DeviceOps.PassRows"/>.</param>
internal sealed class PromptPass(LanguageModel model, Activations a, int? maxRows = null)
{
    /// <summary>Rows of the pass being filled, or of the last one that was run.</summary>
    public RowBatch Rows { get; } = new();

    /// <summary>Activations of the pass.</summary>
    public Activations A => a;

    /// <summary>Whether the pass has no room for another row.</summary>
    public bool IsFull => Rows.Values >= MaxRows;

    /// <summary>Fills the pass with tokens of one sequence from index <paramref name="begin"/> on, as many as it has room for.</summary>
    /// <param name="ids">Tokens of the sequence.</param>
    /// <param name="begin">Index of the first token that has not been run.</param>
    /// <param name="position">Position of ids[0].</param>
    /// <param name="cache">KV cache of the sequence, with room for all tokens.</param>
    /// <param name="steered">Which tokens are steered, and by which law; the default is the plain model.</param>
    public void Fill(ReadOnlySpan<int> ids, int begin, int position, KvCache cache, SteeredSequence steered = default)
    {
        int count = steered.OneByOne ? 1 : MaxRows;
        Rows.Clear();
        for (int i = begin; i < Math.Min(begin + count, ids.Length); i++)
        {
            Rows.Add(ids[i], position + i, cache, steered.At(position + i, ids[i]));
        }
    }

    private int MaxRows => maxRows ?? model.Ops.PassRows;

    /// <summary>Runs the rows through all blocks. Their final states are then in <see cref="Activations.X"/>.</summary>
    /// <param name="visit">Visits the states before each block and at the end; may be null.</param>
    /// <param name="cancellationToken">Checked between blocks. Stages skip work that they have not begun.</param>
    /// <returns>False if the visitor ended the pass.</returns>
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
