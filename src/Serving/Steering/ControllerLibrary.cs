using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Tiller.Controllers;
using Tiller.Model;

namespace Tiller.Serving;

/// <summary>A controller that requests may name.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Controller">What it is.</param>
/// <param name="SizeInBytes">Of its file.</param>
/// <param name="CreatedAt">When its file was written.</param>
internal sealed record NamedController(string Name, Controller Controller, long SizeInBytes, DateTimeOffset CreatedAt);

/// <summary>
/// The controllers of one folder, by name. A name becomes part of a path only when it is one (<see cref="IsName"/>), so no request reaches a file
/// elsewhere.
/// </summary>
internal sealed partial class ControllerLibrary
{
    private const string Extension = ".tiller";

    private readonly LanguageModel _model;
    private readonly string? _directory;
    private readonly Lock _lock = new();
    private readonly SortedDictionary<string, NamedController> _controllers = new(StringComparer.Ordinal);

    /// <summary>Reads what the folder holds.</summary>
    /// <param name="model">What controllers must be for.</param>
    /// <param name="directory">Made if it is not there; null for none.</param>
    /// <exception cref="IOException">The folder cannot be read or made.</exception>
    public ControllerLibrary(LanguageModel model, string? directory)
    {
        (_model, _directory) = (model, directory);
        if (directory is null)
        {
            return;
        }

        Directory.CreateDirectory(directory);
        var warnings = new List<string>();
        foreach (string path in Directory.EnumerateFiles(directory, "*" + Extension).Order(StringComparer.Ordinal))
        {
            string name = Path.GetFileNameWithoutExtension(path);
            if (!IsName(name))
            {
                warnings.Add($"{path} is left out: a controller's name has 1 to 64 of a-z, 0-9 and -.");
                continue;
            }

            try
            {
                _controllers.Add(name, Read(name, path));
            }
            catch (TillerException e)
            {
                warnings.Add($"{path} is left out: {e.Message}");
            }
        }

        Warnings = warnings;
    }

    /// <summary>Files that were left out, a sentence each.</summary>
    public IReadOnlyList<string> Warnings { get; } = [];

    /// <summary>All of them, by name.</summary>
    public IReadOnlyList<NamedController> All
    {
        get
        {
            lock (_lock)
            {
                return [.. _controllers.Values];
            }
        }
    }

    /// <summary>Whether a text may be a controller's name.</summary>
    public static bool IsName(string? text) => text is not null && Names().IsMatch(text);

    /// <summary>A controller.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="param">The field that names it.</param>
    /// <exception cref="ApiException">There is none.</exception>
    public NamedController Get(string? name, string? param)
    {
        CheckName(name, param);
        lock (_lock)
        {
            return Find(name!) ?? throw ApiException.NotFound(param, _controllers.Count == 0
                ? $"There is no controller '{name}', nor any other: upload one, or fit one."
                : $"There is no controller '{name}'; there are {string.Join(", ", _controllers.Keys.Take(20))}.", "controller_not_found");
        }
    }

    /// <summary>A controller; null if there is none of that name.</summary>
    public NamedController? Find(string name)
    {
        lock (_lock)
        {
            return _controllers.GetValueOrDefault(name);
        }
    }

    /// <summary>Refuses a name that is none, or that is taken.</summary>
    public void CheckFree(string? name, string? param, bool replace)
    {
        CheckName(name, param);
        if (_directory is null)
        {
            throw ApiException.Bad(null, "This server keeps no controllers: it was started without a folder for them.", "no_controllers");
        }

        lock (_lock)
        {
            if (!replace && _controllers.ContainsKey(name!))
            {
                throw new ApiException(StatusCodes.Status409Conflict, ApiException.InvalidRequest,
                    $"There is a controller '{name}': choose another name, remove it, or ask to replace it.", param, "controller_exists");
            }
        }
    }

    /// <summary>A file beside the controllers, not yet one of them, which its caller removes.</summary>
    public string NewPath() => Path.Combine(_directory!, $".{Guid.NewGuid():N}.part");

    /// <summary>Takes a controller's file in.</summary>
    /// <param name="name">Checked by <see cref="CheckFree"/>; again here, for another may have come in between.</param>
    /// <param name="path">The file; it is gone afterwards.</param>
    /// <param name="replace">Whether it may replace one of that name.</param>
    /// <exception cref="ApiException">The name is taken, or the file is no controller of this model.</exception>
    public NamedController Add(string name, string path, bool replace)
    {
        NamedController added;
        try
        {
            TakeControlVector(path);
            added = Read(name, path);
        }
        catch (TillerException e)
        {
            // Where the file lies here is nobody's business.
            throw ApiException.Bad(null, e.Message.Replace(path, "The file", StringComparison.Ordinal), ApiException.CodeOf(e));
        }

        lock (_lock)
        {
            CheckFree(name, "name", replace);
            File.Move(path, PathOf(name), overwrite: true);
            _controllers[name] = added;
        }

        return added;
    }

    /// <summary>Removes a controller and its file; texts that it steers go on.</summary>
    /// <exception cref="ApiException">There is none.</exception>
    public void Remove(string? name)
    {
        lock (_lock)
        {
            var controller = Get(name, "name");
            File.Delete(PathOf(controller.Name));
            _controllers.Remove(controller.Name);
        }
    }

    private static void CheckName(string? name, string? param)
    {
        if (!IsName(name))
        {
            throw ApiException.Bad(param, "A controller's name has 1 to 64 of a-z, 0-9 and -.", "invalid_value");
        }
    }

    // What is kept is a controller.
    private void TakeControlVector(string path)
    {
        using (var file = File.OpenRead(path))
        {
            Span<byte> begin = stackalloc byte[4];
            if (file.ReadAtLeast(begin, begin.Length, throwOnEndOfStream: false) < begin.Length || !ControlVectorFile.IsGguf(begin))
            {
                return;
            }
        }

        ControlVectorFile.Read(File.ReadAllBytes(path), _model).Save(path);
    }

    private string PathOf(string name) => Path.Combine(_directory!, name + Extension);

    private NamedController Read(string name, string path)
    {
        var controller = Controller.Load(path);
        controller.CheckModel(_model);
        var file = new FileInfo(path);
        return new NamedController(name, controller, file.Length, new DateTimeOffset(file.LastWriteTimeUtc));
    }

    [GeneratedRegex(@"^[a-z0-9-]{1,64}\z", RegexOptions.CultureInvariant, 1000)]
    private static partial Regex Names();
}
