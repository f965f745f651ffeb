namespace Tiller.Tool;

/// <summary>What <c>tiller methods</c> was asked for.</summary>
internal sealed record MethodsRequest(bool Json);

/// <summary><c>tiller methods</c>: what <c>tiller fit --method</c> and <c>--direction</c> may be.</summary>
internal sealed class MethodsCommand : TillerCommand
{
    public MethodsCommand(Func<MethodsRequest, CancellationToken, Task<int>> run)
        : base("methods", "List the methods that can be fitted: what each does, needs and costs, and what λ is for it; and the directions.") =>
        SetAction((parse, cancellationToken) => run(new MethodsRequest(parse.GetValue(Json)), cancellationToken));

    public override string Examples =>
        """
          # what can be fitted?
          tiller methods
          # the same for machines
          tiller methods --json
        """;
}
