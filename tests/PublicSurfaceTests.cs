namespace Tiller.Tests;

/// <summary>The libraries' public types and members are those of PublicAPI.txt beside each, so that a change of them is seen in a review.</summary>
public sealed class PublicSurfaceTests
{
    private static IEnumerable<TestCaseData> Libraries =>
    [
        new TestCaseData("Engine", typeof(Tiller.Model.LanguageModel).Assembly),
        new TestCaseData("Evaluation", typeof(Tiller.Evaluation.Evaluator).Assembly),
        new TestCaseData("Kernels", typeof(Tiller.Kernels.KernelLibrary).Assembly),
        new TestCaseData("Interop", typeof(TillerException).Assembly),
    ];

    [TestCaseSource(nameof(Libraries))]
    public void The_public_surface_is_as_written_down(string library, System.Reflection.Assembly assembly) => PublicSurface.Check(library, assembly);

    [Test]
    public void A_member_is_written_with_its_types_and_what_may_be_null()
    {
        string[] lines = [.. PublicSurface.Lines([typeof(Shown<>)])];
        Assert.That(lines, Is.EqualTo(new[]
        {
            "class Tiller.Tests.PublicSurfaceTests.Shown<T> : System.IDisposable",
            "Tiller.Tests.PublicSurfaceTests.Shown<T>.Dispose() -> void",
            "Tiller.Tests.PublicSurfaceTests.Shown<T>.Find(string? name, int[] ids, ref int at) -> System.Collections.Generic.IReadOnlyList<T>",
            "Tiller.Tests.PublicSurfaceTests.Shown<T>.Max -> int const = 3",
            "Tiller.Tests.PublicSurfaceTests.Shown<T>.Name -> string? { get; init; }",
            "Tiller.Tests.PublicSurfaceTests.Shown<T>.Shown(int? count = 2)",
        }));
    }

    /// <summary>One of everything.</summary>
    public sealed class Shown<T>(int? count = 2) : IDisposable
    {
        public const int Max = 3;

        public string? Name { get; init; } = $"{count}";

        internal int Hidden { get; }

        public IReadOnlyList<T> Find(string? name, int[] ids, ref int at) => new T[name is null ? ids.Length : at];

        /// <inheritdoc/>
        public void Dispose()
        {
        }
    }
}
