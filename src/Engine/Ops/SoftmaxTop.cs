using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>
/// Of the softmax of one row of logits what log-probabilities need: the largest logit, the sum of exp(l − max), the logit of the drawn token and the
/// largest logits with their ids. log p(i) = l_i − max − log Σ.
/// </summary>
/// <param name="count">n: how many of the most probable tokens, 0 to <see cref="Max"/>.</param>
internal sealed class SoftmaxTop(int count)
{
    /// <summary>Most tokens.</summary>
    public const int Max = SoftmaxLine.MaxTokens;

    private readonly SoftmaxToken[] _tokens = new SoftmaxToken[count];
    private double _sum;
    private float _max;

    /// <summary>n.</summary>
    public int Count => count;

    /// <summary>Log-probability of the drawn token.</summary>
    public float Drawn { get; private set; }

    /// <summary>How many tokens there are: n, or the vocabulary if that is smaller.</summary>
    public int Held { get; private set; }

    /// <summary>The <paramref name="rank"/>-th most probable token; the lower id where two are equally probable.</summary>
    public (int Id, float LogProbability) this[int rank] => (_tokens[rank].Id, LogProbability(_tokens[rank].Logit));

    /// <summary>Takes the largest of logits in the order of falling logit, then of rising id.</summary>
    /// <param name="logits">(V), finite or −∞.</param>
    /// <param name="max">The largest.</param>
    /// <param name="sum">Σ exp(l − max).</param>
    public void Set(ReadOnlySpan<float> logits, float max, double sum)
    {
        (_max, _sum, Held) = (max, sum, 0);
        if (count == 0)
        {
            return;
        }

        for (int id = 0; id < logits.Length; id++)
        {
            float logit = logits[id];
            if (Held == count && !(logit > _tokens[count - 1].Logit))
            {
                continue;
            }

            int at = Held < count ? Held++ : count - 1;
            for (; at > 0 && logit > _tokens[at - 1].Logit; at--)
            {
                _tokens[at] = _tokens[at - 1];
            }

            _tokens[at] = new SoftmaxToken { Id = id, Logit = logit };
        }
    }

    /// <summary>The token that was drawn.</summary>
    public void Draw(float logit) => Drawn = LogProbability(logit);

    /// <summary>Takes over what a device has found.</summary>
    /// <param name="line">Its line.</param>
    /// <param name="vocabulary">V.</param>
    public void Receive(SoftmaxLine line, int vocabulary)
    {
        (_max, _sum, Held) = (line.Max, line.Sum, Math.Min(count, vocabulary));
        ((ReadOnlySpan<SoftmaxToken>)line.Top)[..Held].CopyTo(_tokens);
        Draw(line.Drawn);
    }

    private float LogProbability(float logit) => (float)(logit - (double)_max - Math.Log(_sum));
}
