namespace Tiller.Tests.Serving;

/// <summary>The public types and members of Tiller.Serving are those of its PublicAPI.txt.</summary>
public sealed class PublicSurfaceTests
{
    [Test]
    public void The_public_surface_is_as_written_down() => PublicSurface.Check("Serving", typeof(Tiller.Serving.TillerService).Assembly);
}
