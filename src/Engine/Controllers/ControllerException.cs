namespace Tiller.Controllers;

/// <summary>Why a controller was refused.</summary>
public enum ControllerFault
{
    /// <summary>The file is a safetensors file but not a controller, or a part of it is missing or malformed.</summary>
    Schema,

    /// <summary>The file is of a newer format version.</summary>
    UnsupportedVersion,

    /// <summary>The contents of the file do not match their SHA-256.</summary>
    Checksum,

    /// <summary>A tensor has another type or shape than the model's L and D require.</summary>
    Shape,

    /// <summary>A tensor holds NaN or an infinity.</summary>
    NonFinite,

    /// <summary>A number in the metadata is out of its range.</summary>
    Range,

    /// <summary>The file is larger than any controller.</summary>
    LimitExceeded,

    /// <summary>The controller was fitted on another model.</summary>
    ModelMismatch,

    /// <summary>The controller moves no state at any λ (<see cref="SteeringMethod.Idle"/>).</summary>
    Idle,
}

/// <summary>A controller file is damaged, too new or for another model, or a fit would give a controller that does nothing.</summary>
public sealed class ControllerException : TillerException
{
    internal ControllerException(ControllerFault fault, string message, Exception? cause = null)
        : base(message, cause)
    {
        Fault = fault;
    }

    /// <summary>The kind of fault.</summary>
    public ControllerFault Fault { get; }

    /// <summary>Layer of a number that is not finite, or null.</summary>
    public int? Layer { get; internal init; }

    /// <summary>Index, within its layer, of a number that is not finite, or null.</summary>
    public int? Index { get; internal init; }
}
