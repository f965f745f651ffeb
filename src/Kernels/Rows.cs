using System.Runtime.InteropServices;

namespace Tiller.Kernels;

/// <summary>A value row of a batch in the layout of the kernels: <c>TillerRow</c> of rows.cuh, which explains the fields.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeviceRow
{
    /// <summary>Token id.</summary>
    public int Id;

    /// <summary>Position in the sequence.</summary>
    public int Position;

    /// <summary>Number of positions in the cache.</summary>
    public int Capacity;

    /// <summary>Line of the steering state that this row uses.</summary>
    public int Slot;

    /// <summary>The row's first tangent row, counted from the batch's first tangent row.</summary>
    public int FirstTangent;

    /// <summary>The number after the row's last tangent row.</summary>
    public int EndTangent;

    /// <summary>1 if the sequence uses the second half of the rotary tables, which is for long sequences.</summary>
    public int IsLong;

    /// <summary>Padding, so that the addresses are aligned.</summary>
    public int Reserved;

    /// <summary>Address of the sequence's keys and values, on the device.</summary>
    public nint Cache;

    /// <summary>Address of a <see cref="DeviceSteering"/> on the device; 0 for a plain row.</summary>
    public nint Steering;
}

/// <summary>A law that runs in one sequence, in the layout of the kernels: <c>TillerSteering</c> of rows.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeviceSteering
{
    /// <summary>Address of <see cref="DeviceLayerLaw"/> // (stages), on the device.</summary>
    public nint Layers;

    /// <summary>Address of α // (slots, sensors).</summary>
    public nint Errors;

    /// <summary>Address of dα // (tangent rows of the batch, sensors).</summary>
    public nint TangentErrors;

    /// <summary>Address of |u_k| // (slots, LayerCount).</summary>
    public nint InputNorms;

    /// <summary>Address of |x_k| // (slots, LayerCount).</summary>
    public nint StateNorms;

    /// <summary>Address of |u_k| before the bound // (slots, LayerCount).</summary>
    public nint FreeNorms;

    /// <summary>Number of sensors in the whole law.</summary>
    public int Sensors;

    /// <summary>Number of stages: L, or 2 L if the law also moves the inputs of blocks. Stage L + k is the input of block k.</summary>
    public int LayerCount;

    /// <summary>Bound on |u_k|; infinity if there is none.</summary>
    public float MaxEffort;

    /// <summary>The stage that comes first in a step.</summary>
    public int FirstStage;

    /// <summary>Address of the <see cref="DeviceSteering"/> whose first line the next step writes; 0 if it is this one.</summary>
    public nint Next;

    /// <summary><see cref="DeviceEdit"/>, by point and block; 0 for none.</summary>
    public nint Edits;

    /// <summary>Where the edits of each point of a block begin, and where the last one's end // (EditPoints + 1).</summary>
    public nint EditBegin;

    /// <summary>|Δz| // (slots, EditPoints).</summary>
    public nint EditNorms;

    /// <summary>|z| before and after, of rows that are scaled back together // (slots, 2).</summary>
    public nint Joined;

    /// <summary>Scratch of flows // (slots, D).</summary>
    public nint EditScratch;

    /// <summary>4 L.</summary>
    public int EditPoints;

    /// <summary>Fills up.</summary>
    public int Reserved;
}

/// <summary>An edit of an activation as the kernels read it: <c>TillerEdit</c> of rows.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeviceEdit
{
    /// <summary>Its vectors under each other.</summary>
    public nint Numbers;

    /// <summary>Tables of a flow's sketch.</summary>
    public nint Places;

    /// <summary>0 affine, 1 ablation, 2 kept norm, 3 flow.</summary>
    public int Kind;

    /// <summary>Features of a flow's sketch.</summary>
    public int Size;

    /// <summary>Sensor that switches it among all of the law's, -1 for none.</summary>
    public int Gate;

    /// <summary>Steps of a flow.</summary>
    public int Steps;

    /// <summary>How much of it is done.</summary>
    public float Strength;

    /// <summary>√γ of a flow's sketch.</summary>
    public float RootGamma;

    /// <summary>√c₀ of a flow's sketch.</summary>
    public float RootConstant;

    /// <summary>Not 0 where the rows of a pass are scaled back together.</summary>
    public int Joins;
}

/// <summary>An odd function of an error, in the layout of the kernels: <c>TillerCurve</c> of rows.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeviceCurve
{
    /// <summary>q at the nodes // (Count).</summary>
    public nint Nodes;

    /// <summary>Value and slope at each node // (Count, 2).</summary>
    public nint Cubics;

    /// <summary>Number of nodes; 0 for the error itself.</summary>
    public int Count;

    /// <summary>The error up to which the function is linear.</summary>
    public float Knee;

    /// <summary>Its slope there.</summary>
    public float Slope;

    /// <summary>The unit of values and slopes.</summary>
    public float Scale;
}

/// <summary>
/// The part of a law for one stage, in the layout of the kernels: <c>TillerLayerLaw</c> of rows.cuh. Members are addresses or numbers.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeviceLayerLaw
{
    /// <summary>Sensor directions v // (sensors, D).</summary>
    public nint V;

    /// <summary>Lower ends of the sensors' intervals; for a setpoint, the setpoint // (sensors).</summary>
    public nint Low;

    /// <summary>Upper ends of the sensors' intervals; for a setpoint, the setpoint // (sensors).</summary>
    public nint High;

    /// <summary>Index of each sensor in the whole law // (sensors).</summary>
    public nint Sensor;

    /// <summary>Directions w of the terms // (terms, D).</summary>
    public nint W;

    /// <summary>Open-loop strengths c // (terms).</summary>
    public nint C;

    /// <summary>Index in the whole law of the sensor that switches each term; −1 for none // (terms).</summary>
    public nint Gate;

    /// <summary>Index of each term's first feed, then the number of all feeds // (terms + 1).</summary>
    public nint FeedBegin;

    /// <summary>Index in the whole law of each feed's sensor // (feeds).</summary>
    public nint FeedSensor;

    /// <summary>Gain of each feed // (feeds).</summary>
    public nint FeedGain;

    /// <summary><see cref="DeviceCurve"/> of each feed; 0 if no feed has one // (feeds).</summary>
    public nint Curves;

    /// <summary>The two sensors of each plane, as indices in this stage // (planes, 2).</summary>
    public nint PlaneSensors;

    /// <summary>cos θ and sin θ of each plane // (planes, 2).</summary>
    public nint PlaneTargets;

    /// <summary>Number of sensors in this stage.</summary>
    public int Sensors;

    /// <summary>Number of terms in this stage.</summary>
    public int Terms;

    /// <summary>Number of planes in this stage.</summary>
    public int Planes;

    /// <summary>1 if a sensor has an interval or belongs to a plane, so that the Jacobian of the law depends on the state; otherwise 0.</summary>
    public int Bends;

    /// <summary>Not 0 where |x| is wanted: the stage has terms, or its block edits.</summary>
    public int KeepsNorm;

    /// <summary>Fills up.</summary>
    public int Reserved;
}
