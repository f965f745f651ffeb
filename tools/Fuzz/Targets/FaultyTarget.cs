using FsCheck;
using FsCheck.Fluent;

namespace Tiller.Fuzz.Targets;

/// <summary>A reader that fails on purpose at inputs that begin with a capital letter: shows that each kind of failure is found.</summary>
internal sealed class FaultyTarget(string kind) : FuzzTarget
{
    public static IReadOnlyList<string> Kinds { get; } = ["hang", "crash", "stack", "memory", "exception", "promise"];

    public override string Name => "faulty-" + kind;

    public override IReadOnlyList<byte[]> Seeds { get; } = ["a"u8.ToArray()];

    public override IReadOnlyList<byte[]> Words { get; } = ["b"u8.ToArray()];

    public override Gen<byte[]> Structure { get; } = Gen.Choose('a', 'z').Select(c => (byte[])[(byte)c]);

    public override void Read(byte[] input)
    {
        if (input.Length == 0 || !char.IsAsciiLetterUpper((char)input[0]))
        {
            return;
        }

        switch (kind)
        {
            case "hang":
                while (Environment.TickCount64 > 0)
                {
                }

                break;
            case "crash":
                Environment.FailFast("on purpose");
                break;
            case "stack":
                _ = Depth(0);
                break;
            case "memory":
                GC.KeepAlive(new byte[1 << 30]);
                break;
            case "exception":
                throw new InvalidCastException("on purpose");
            default:
                Promise(false, "on purpose");
                break;
        }
    }

    private static long Depth(long n) => n < 0 ? n : Depth(n + 1) + Depth(n + 2);
}
