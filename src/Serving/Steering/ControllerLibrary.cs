using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Tiller.Controllers;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Serving;

/// <summary>A controller that requests may name.</summary>
/// <param name="Name">The name.</param>
/// <param name="Controller">The controller.</param>
/// <param name="SizeInBytes">Size of its file in bytes.</param>
/// <param name="CreatedAt">Time at which its file was written.</param>
internal sealed record NamedController(string Name, Controller Controller, long SizeInBytes, DateTimeOffset CreatedAt)
{
    // Requests mostly ask for few λ of a controller. A law has a copy of all directions in the layout of the device, which is then made once.
    private const int KeptLaws = 4;

    private readonly Lock _lock = new();
    private readonly List<(double Lambda, float MaxEffort, FeedbackLaw Law)> _laws = []; // the last one asked for is last

    /// <summary>The controller's law (<see cref="Controller.ToLaw"/>): the same one as before if it was asked for lately.</summary>
    /// <exception cref="TillerException">A setpoint or gain overflows.</exception>
    public FeedbackLaw ToLaw(double lambda, float maxEffort)
    {
        lock (_lock)
        {
            int at = _laws.FindIndex(kept => kept.Lambda.Equals(lambda) && kept.MaxEffort.Equals(maxEffort));
            var asked = at >= 0 ? _laws[at] : (lambda, maxEffort, Controller.ToLaw(lambda, maxEffort));
            if (at >= 0 || _laws.Count == KeptLaws)
            {
                _laws.RemoveAt(Math.Max(at, 0));
            }

            _laws.Add(asked);
            return asked.Item3;
        }
    }
}

/// <summary>
/// The controllers of a folder, by name. A text becomes part of a path only if it is a valid name (<see cref="IsName"/>), so that no request can
/// reach another file.
/// </summary>
internal sealed partial class ControllerLibrary
{
    private const string Extension = ".tiller";

    private readonly LanguageModel _model;
    private readonly string? _directory;
    private readonly Lock _lock = new();
    private readonly SortedDictionary<string, NamedController> _controllers = new(StringComparer.Ordinal);

    /// <summary>Reads the controllers of the folder.</summary>
    /// <param name="model">The model that the controllers must be for.</param>
    /// <param name="directory">The folder, which is created if necessary; null for none.</param>
    /// <exception cref="IOException">The folder cannot be read or created.</exception>
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
                warnings.Add($"{path} is left out: a controller's name must have 1 to 64 of the characters a-z, 0-9 and -.");
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

    /// <summary>The files that were left out, as a sentence for each.</summary>
    public IReadOnlyList<string> Warnings { get; } = [];

    /// <summary>All controllers, in order of their names.</summary>
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

    /// <summary>The controller with a name.</summary>
    /// <param name="name">The name.</param>
    /// <param name="param">The field of the request that contains the name.</param>
    /// <exception cref="ApiException">There is no such controller.</exception>
    public NamedController Get(string? name, string? param)
    {
        CheckName(name, param);
        lock (_lock)
        {
            return Find(name!) ?? throw ApiException.NotFound(param, _controllers.Count == 0
                ? $"There is no controller '{name}', and the server has no controllers: upload or fit one."
                : $"There is no controller '{name}'; there are {string.Join(", ", _controllers.Keys.Take(20))}.", "controller_not_found");
        }
    }

    /// <summary>Finds a controller; null if there is none with that name.</summary>
    public NamedController? Find(string name)
    {
        lock (_lock)
        {
            return _controllers.GetValueOrDefault(name);
        }
    }

    /// <summary>Refuses a text that is not a valid name, and a name that is in use.</summary>
    public void CheckFree(string? name, string? param, bool replace)
    {
        CheckName(name, param);
        if (_directory is null)
        {
            throw ApiException.Bad(null, "This server stores no controllers, because it was started without a folder for them.", "no_controllers");
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

    /// <summary>A path for a new file in the folder, which is not a controller yet. The caller must delete the file.</summary>
    public string NewPath() => Path.Combine(_directory!, $".{Guid.NewGuid():N}.part");

    /// <summary>Adds a controller from a file.</summary>
    /// <param name="name">
    /// The name. <see cref="CheckFree"/> has accepted it, but it is checked again, because another may have been added since.
    /// </param>
    /// <param name="path">The file, which is moved into the library.</param>
    /// <param name="replace">Whether a controller of the same name may be replaced.</param>
    /// <exception cref="ApiException">The name is in use, or the file is not a controller for this model.</exception>
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
            // Clients must not see paths of this machine.
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

    /// <summary>Removes a controller and its file. Texts that it steers continue.</summary>
    /// <exception cref="ApiException">There is no such controller.</exception>
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
            throw ApiException.Bad(param, "A controller's name must have 1 to 64 of the characters a-z, 0-9 and -.", "invalid_value");
        }
    }

    // Converts a GGUF control vector to a controller file, because only these are stored.
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
