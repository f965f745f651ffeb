using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>
/// The parts of the softmax of one row of logits that log-probabilities need: the largest logit, Σ exp(l − max), the logit of the drawn token and the
/// n largest logits with their ids. log p(i) = l_i − max − log Σ.
/// </summary>
/// <param name="count">n, the number of most probable tokens to keep: 0 to <see cref="Max"/>.</param>
internal sealed class SoftmaxTop(int count)
{
    /// <summary>Maximum of n.</summary>
    public const int Max = SoftmaxLine.MaxTokens;

    private readonly SoftmaxToken[] _tokens = new SoftmaxToken[count];
    private double _sum;
    private float _max;

    /// <summary>n.</summary>
    public int Count => count;

    /// <summary>Log-probability of the drawn token.</summary>
    public float Drawn { get; private set; }

    /// <summary>Number of tokens kept: n, or the size of the vocabulary if that is smaller.</summary>
    public int Held { get; private set; }

    /// <summary>The <paramref name="rank"/>-th most probable token. Of equally probable tokens the lower id comes first.</summary>
    public (int Id, float LogProbability) this[int rank] => (_tokens[rank].Id, LogProbability(_tokens[rank].Logit));

    /// <summary>Keeps the n largest logits, in order of falling logit and then of rising id.</summary>
    /// <param name="logits">The logits // (V), finite or −∞.</param>
    /// <param name="max">The largest logit.</param>
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

    /// <summary>Sets the logit of the drawn token.</summary>
    public void Draw(float logit) => Drawn = LogProbability(logit);

    /// <summary>Takes over the results of a device.</summary>
    /// <param name="line">The line that the device wrote.</param>
    /// <param name="vocabulary">V.</param>
    public void Receive(SoftmaxLine line, int vocabulary)
    {
        (_max, _sum, Held) = (line.Max, line.Sum, Math.Min(count, vocabulary));
        ((ReadOnlySpan<SoftmaxToken>)line.Top)[..Held].CopyTo(_tokens);
        Draw(line.Drawn);
    }

    private float LogProbability(float logit) => (float)(logit - (double)_max - Math.Log(_sum));
}
