using Tiller.Kernels;

namespace Tiller.Tool;

/// <summary>How <c>tiller kernels</c> tells what there is, and what it compiled.</summary>
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

    public static void WriteJson(Terminal terminal, KernelInventory inventory) => Json.Write(terminal.Output, json =>
    {
        json.WriteStartObject();
        json.WriteNumber("sources", inventory.Sources);
        json.WriteNumber("kernels", inventory.Kernels);
        json.WriteStartArray("images");
        foreach (var set in inventory.Images)
        {
            json.WriteStartObject();
            json.WriteString("place", set.Place);
            json.WriteString("problem", set.Problem);
            json.WriteStartArray("images");
            foreach (var image in set.Images)
            {
                json.WriteStartObject();
                json.WriteString("source", image.Source);
                json.WriteString("architecture", image.Architecture);
                json.WriteString("kind", image.IsPtx ? "ptx" : "cubin");
                json.WriteString("compiler", image.Compiler);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartObject("compiler");
        json.WriteString("name", inventory.Compiler);
        json.WriteString("problem", inventory.CompilerProblem);
        json.WriteStartArray("architectures");
        foreach (string architecture in inventory.CompilesFor)
        {
            json.WriteStringValue(architecture);
        }

        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteStartObject("cache");
        json.WriteString("folder", inventory.Cache.Folder);
        json.WriteString("problem", inventory.Cache.Problem);
        json.WriteNumber("sizeInBytes", inventory.Cache.SizeInBytes);
        json.WriteNumber("others", inventory.Cache.Others);
        json.WriteStartArray("ready");
        foreach (var share in inventory.Cache.Shares)
        {
            json.WriteStartObject();
            json.WriteString("architecture", share.Architecture);
            json.WriteNumber("files", share.Ready);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteEndObject();
    });

    public static void WriteJson(Terminal terminal, IReadOnlyList<KernelBuilt> built) => Json.Write(terminal.Output, json =>
    {
        json.WriteStartArray();
        foreach (var file in built)
        {
            json.WriteStartObject();
            json.WriteString("source", file.Source);
            json.WriteString("architecture", file.Architecture);
            json.WriteBoolean("compiled", file.Compiled);
            json.WriteString("file", file.File);
            json.WriteNumber("sizeInBytes", file.SizeInBytes);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    });
}
