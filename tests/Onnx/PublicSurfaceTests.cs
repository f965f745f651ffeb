namespace Tiller.Tests.Onnx;

/// <summary>The public types and members of Tiller.Evaluation.Onnx are those of its PublicAPI.txt.</summary>
public sealed class PublicSurfaceTests
{
    [Test]
    public void The_public_surface_is_as_written_down() =>
        PublicSurface.Check("Evaluation.Onnx", typeof(Tiller.Evaluation.Onnx.OnnxScorer).Assembly);
}
