using System.Runtime.CompilerServices;

namespace Tiller.Tokens;

/// <summary>What becomes of the matches of a split.</summary>
internal enum SplitBehavior
{
    /// <summary>They are left out.</summary>
    Removed,

    /// <summary>Each is a piece.</summary>
    Isolated,

    /// <summary>Each is joined to what stands before it, unless that is a match too.</summary>
    MergedWithPrevious,

    /// <summary>Each is joined to what follows it, unless that is a match too.</summary>
    MergedWithNext,

    /// <summary>Neighbouring matches are one piece.</summary>
    Contiguous,
}

/// <summary>Splits text at the matches of a pattern.</summary>
/// <param name="pattern">What to look for.</param>
/// <param name="behavior">What becomes of the matches.</param>
/// <param name="invert">Matches and what stands between them change places.</param>
internal sealed class SplitStage(TextPattern pattern, SplitBehavior behavior, bool invert = false) : PreTokenizerStage
{
    public override void Run(Piece piece, int stage, WordSink sink)
    {
        ReadOnlySpan<byte> text = piece.Text;
        PatternState state = sink.StateOf(stage);
        pattern.Begin(text, state);
        var pieces = new Pieces(piece, stage + 1, sink, behavior);
        int at = 0;
        while (!sink.HasEnough && pattern.Next(text, at, state, out int start, out int end))
        {
            if (start > at)
            {
                pieces.Add(at, start, invert);
            }

            pieces.Add(start, end, !invert);
            at = end;
        }

        if (at < text.Length)
        {
            pieces.Add(at, text.Length, invert);
        }

        pieces.Flush();
    }

    // Joins segments, matches and what stands between them, as they come. One may be held back to be joined to the next.
    private ref struct Pieces(Piece text, int next, WordSink sink, SplitBehavior behavior)
    {
        private readonly Piece text = text;
        private readonly bool areWords = sink.TakesWordsOf(next);
        private int heldStart;
        private int heldEnd;
        private bool holds;
        private bool afterMatch;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Add(int start, int end, bool match)
        {
            switch (behavior)
            {
                case SplitBehavior.Isolated:
                case SplitBehavior.Removed when !match:
                    Pass(start, end);
                    break;
                case SplitBehavior.Removed:
                    break;
                case SplitBehavior.Contiguous:
                    Join(start, end, joins: match == afterMatch);
                    break;
                case SplitBehavior.MergedWithPrevious:
                    Join(start, end, joins: match && !afterMatch);
                    break;
                default:
                    Join(start, end, joins: !match && afterMatch);
                    if (!match)
                    {
                        Flush();
                    }

                    break;
            }

            afterMatch = match;
        }

        public void Flush()
        {
            if (holds)
            {
                Pass(heldStart, heldEnd);
                holds = false;
            }
        }

        private void Join(int start, int end, bool joins)
        {
            if (!joins || !holds)
            {
                Flush();
                heldStart = start;
                holds = true;
            }

            heldEnd = end;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Pass(int start, int end)
        {
            if (areWords)
            {
                sink.Encode(text.Text[start..end]);
            }
            else
            {
                sink.Pass(next, text[start, end]);
            }
        }
    }
}
