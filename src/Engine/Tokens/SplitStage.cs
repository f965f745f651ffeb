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
        private readonly Piece _text = text;
        private readonly bool _areWords = sink.TakesWordsOf(next);
        private int _heldStart;
        private int _heldEnd;
        private bool _holds;
        private bool _afterMatch;

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
                    Join(start, end, joins: match == _afterMatch);
                    break;
                case SplitBehavior.MergedWithPrevious:
                    Join(start, end, joins: match && !_afterMatch);
                    break;
                default:
                    Join(start, end, joins: !match && _afterMatch);
                    if (!match)
                    {
                        Flush();
                    }

                    break;
            }

            _afterMatch = match;
        }

        public void Flush()
        {
            if (_holds)
            {
                Pass(_heldStart, _heldEnd);
                _holds = false;
            }
        }

        private void Join(int start, int end, bool joins)
        {
            if (!joins || !_holds)
            {
                Flush();
                _heldStart = start;
                _holds = true;
            }

            _heldEnd = end;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Pass(int start, int end)
        {
            if (_areWords)
            {
                sink.Encode(_text.Text[start..end]);
            }
            else
            {
                sink.Pass(next, _text[start, end]);
            }
        }
    }
}
