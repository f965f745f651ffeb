using System.Text.Json.Serialization;
using Tiller.Kernels;

namespace Tiller.Tool;

/// <summary>Prints the result of <c>tiller kernels</c>.</summary>
internal static class KernelsOutput
{
    public static void WriteText(Terminal terminal, KernelInventory inventory)
    {
        Row("sources", $"{inventory.Sources} files, {inventory.Kernels} kernels");
        foreach (var set in inventory.Images)
        {
            var kinds = set.Images.GroupBy(i => (i.IsPtx, i.Compiler)).Select(kind =>
                $"{(kind.Key.IsPtx ? "PTX" : "cubins")} "
                + $"for {string.Join(", ", kind.Select(i => i.Architecture).Distinct().Order(StringComparer.Ordinal))} by {kind.Key.Compiler}");
            Row("images", $"{set.Place}: {string.Join("; ", kinds.Append(set.Problem).Where(text => text is not null))}");
        }

        if (inventory.Images.Count == 0)
        {
            Row("images", "none were made ahead of time");
        }

        Row("compiler", inventory.Compiler is null
            ? inventory.CompilerProblem!
            : $"{inventory.Compiler} for {string.Join(", ", inventory.CompilesFor)}");
        var cache = inventory.Cache;
        var parts = cache.Shares.Select(s => $"{s.Ready} of {inventory.Sources} files for {s.Architecture}")
            .Append(cache.Others > 0 ? $"{cache.Others} of other sources or another compiler" : null)
            .Append(cache.SizeInBytes > 0 ? $"{cache.SizeInBytes / 1048576.0:F1} MiB" : null)
            .Append(cache.Problem).Where(text => text is not null).DefaultIfEmpty("empty");
        Row("cache", $"{cache.Folder ?? "off"}: {string.Join("; ", parts)}");

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-12}{VisibleText.Of(value)}");
    }

    public static void WriteText(Terminal terminal, IReadOnlyList<KernelBuilt> built)
    {
        foreach (var file in built)
        {
            terminal.Output.WriteLine(
                $"{file.Architecture,-8}{file.Source,-28}{(file.Compiled ? "compiled" : "was there"),-11}{file.SizeInBytes / 1024.0,8:F1} KiB");
        }

        terminal.Output.WriteLine(
            $"{built.Count(f => f.Compiled)} compiled, {built.Count(f => !f.Compiled)} were there, "
            + $"{built.Sum(f => f.SizeInBytes) / 1048576.0:F1} MiB "
            + $"in {VisibleText.Of(Path.GetDirectoryName(built[0].File)!)}");
    }

    public static void WriteJson(Terminal terminal, KernelInventory inventory)
    {
        var cache = inventory.Cache;
        var told = new KernelsJson(
            inventory.Sources,
            inventory.Kernels,
            [.. inventory.Images.Select(static set => new ImageSetJson(set.Place, set.Problem, [.. set.Images.Select(static x =>
                new ImageJson(x.Source, x.Architecture, x.IsPtx ? "ptx" : "cubin", x.Compiler))]))],
            new CompilerJson(inventory.Compiler, inventory.CompilerProblem, [.. inventory.CompilesFor]),
            new KernelCacheJson(cache.Folder, cache.Problem, cache.SizeInBytes, cache.Others, [.. cache.Shares.Select(static x =>
                new CachedJson(x.Architecture, x.Ready))]));
        Json.Write(terminal.Output, told, KernelsJsonContext.Default.KernelsJson);
    }

    public static void WriteJson(Terminal terminal, IReadOnlyList<KernelBuilt> built) => Json.Write(
        terminal.Output,
        [.. built.Select(static x => new BuiltJson(x.Source, x.Architecture, x.Compiled, x.File, x.SizeInBytes))],
        KernelsJsonContext.Default.BuiltJsonArray);
}

/// <summary>The JSON of <c>kernels</c>.</summary>
internal sealed record KernelsJson(int Sources, int Kernels, IReadOnlyList<ImageSetJson> Images, CompilerJson Compiler, KernelCacheJson Cache);

/// <summary>Images made ahead of time, in one place.</summary>
internal sealed record ImageSetJson(string Place, string? Problem, IReadOnlyList<ImageJson> Images);

/// <summary>An image.</summary>
internal sealed record ImageJson(string Source, string Architecture, string Kind, string Compiler);

/// <summary>The compiler of kernels, or why there is none.</summary>
internal sealed record CompilerJson(string? Name, string? Problem, IReadOnlyList<string> Architectures);

/// <summary>The cache of compiled kernels.</summary>
internal sealed record KernelCacheJson(string? Folder, string? Problem, long SizeInBytes, int Others, IReadOnlyList<CachedJson> Ready);

/// <summary>Files that are ready for an architecture.</summary>
internal sealed record CachedJson(string Architecture, int Files);

/// <summary>A file that <c>kernels --compile</c> made or found.</summary>
internal sealed record BuiltJson(string Source, string Architecture, bool Compiled, string File, long SizeInBytes);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(KernelsJson))]
[JsonSerializable(typeof(BuiltJson[]))]
internal sealed partial class KernelsJsonContext : JsonSerializerContext;
