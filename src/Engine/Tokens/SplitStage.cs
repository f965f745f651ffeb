using System.Runtime.CompilerServices;

namespace Tiller.Tokens;

/// <summary>What a split does with the matches.</summary>
internal enum SplitBehavior
{
    /// <summary>Removes them.</summary>
    Removed,

    /// <summary>Each match becomes a piece.</summary>
    Isolated,

    /// <summary>Each match is joined to the text before it, unless that is a match too.</summary>
    MergedWithPrevious,

    /// <summary>Each match is joined to the text after it, unless that is a match too.</summary>
    MergedWithNext,

    /// <summary>Adjacent matches become one piece.</summary>
    Contiguous,
}

/// <summary>Splits text at the matches of a pattern.</summary>
/// <param name="pattern">The pattern of the matches.</param>
/// <param name="behavior">What to do with the matches.</param>
/// <param name="invert">Whether to treat the text between matches as matches, and matches as the text between.</param>
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

    // Joins the segments, which are matches and the text between them. A segment may be held back to be joined to the next one.
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
