"""What the notes in the templates say: what to press, what to turn, and which node to change for a model of one's own.

No code spans: the newer of the two ways in which the host draws nodes makes them unreadable on brown.
"""

# What a checkpoint of one's own asks for, in one way in all notes.
_CHECKPOINT = "**Your own checkpoint**: *Load Checkpoint* in place of *Load Perfusion Demo Model*"
_SIZES = "512 x 512 and **cfg** 7 for SD1.5, 1024 x 1024 and 6 for SDXL"
_LATENT = f"*Empty Latent Image* {_SIZES}"
_FILE = "in *Load Perfusion Concept* a file of its family and **bias** -2 (the file's own)"
_FILES = "in both *Load Perfusion Concept* files of its family and **bias** -2 (the file's own)"
_WORD = "its word in the prompt"
_OWN = f"{_CHECKPOINT}; {_LATENT}; {_FILE}; {_WORD}."

FIRST_PICTURE = f"""\
## First picture

**\\<hugsy>** is a toy that words cannot describe. A concept file of a few kilobytes shows the model what it is.

1. Press **Run**: four pictures of **\\<hugsy>** on the beach.
2. Change the **prompt** and keep the word: *a photo of a* **\\<hugsy>** *with a hat in the snow*.
3. Turn **bias** in *Load Perfusion Concept* and run again. Lower (0.6) looks more like the toy, higher (1) follows \
the rest of the prompt more. The seed is fixed, so that you see what the gate alone does.

The demo model only paints toys, 128 x 128: teddies, balls, cups, cars, trees, houses, fish and stars; on the beach, \
in the snow, on the grass, at night, in a pink room, in a grey studio.

{_OWN} Press **R** to see a new file.
"""

TRAIN = f"""\
## Train a concept

1. Press **Run**. Five pictures of a toy become the word **\\<bruno>**, painted in a new scene.
2. The concept lies in *output/perfusion*: press **R**, and *Load Perfusion Concept* lists it. Its **bias** there sets \
how much a picture looks like the thing.
3. **preset**: *Quick* to try, *Standard* to keep, *Low memory* to take the least.
4. *Cancel* keeps what was learned: turn **resume** on and run again.

{_CHECKPOINT}; {_LATENT}; your **word**, also in the prompt. The steps: the template *Train on your own photos*.
"""

OWN_PHOTOS = f"""\
## Train on your own photos

**Run** it as it is, and the demo model learns **\\<bruno>**. Then make it yours:

1. Click *Load Checkpoint* and *Load Concept Pictures* and press **Ctrl+M** on each: they wake up.
2. Upload about five photos of one thing, before different backgrounds.
3. Hold **Shift** and drag the dots **model**, **clip**, **vae** of *Load Perfusion Demo Model* onto those of *Load \
Checkpoint*: all wires move. So too **images** and **masks**. Delete the demo nodes.
4. **word**: a new one, such as **\\<rex>**. **superclass**: the plain word for what it is, such as *dog*.
5. **preset** *Standard*, and run. The file lands in *output/perfusion*.
6. In the template *First picture*: *Load Checkpoint*; {_LATENT}; press **R** and choose your file in *Load Perfusion \
Concept*, with **bias** -2 (the file's own); your word in the prompt in place of **\\<hugsy>**.

Masks, captions and *Measure Text Statistics* may be left out. **Anima, Cosmos-Predict2, Wan**: *Load Diffusion \
Model*, *Load CLIP*, *Load VAE*; only random weights were tried.
"""

TWO_CONCEPTS = f"""\
## Two concepts in one picture

**\\<hugsy>** and **\\<sippy>** were trained apart and do not know of each other. One gate node takes them \
both; a free input appears for the next.

1. Press **Run**: the toy beside the cup.
2. Change the **prompt**; each concept acts where its word is, and is silent where it is not.
3. Each loader has its own **bias**. If one concept takes over, raise its bias or lower that of the other, by 0.1.

**key_lock** *global* locks the keys of the whole prompt to the superclasses (a teddy beside a cup): freer scenes, \
less likeness; use a bias of 0.45 with it.

{_CHECKPOINT}; {_LATENT}; {_FILES}; their words in the prompt.
"""

SWEEP = f"""\
## Sweep the bias

One concept, two seeds, five biases: *Sweep Gate Bias* gives the model once for each, *Label Grid* joins the pictures.

1. Press **Run**. On the left all toy and hardly a hat, on the right an ordinary teddy with a hat; between is what \
you want.
2. Write other **biases**, such as *0.7, 0.85, 1*, and run again: only the sampler runs.
3. Take the bias that you like for your own work: set it in *Load Perfusion Concept*.

With several concepts write one **word**, such as **\\<hugsy>**, to sweep that one alone.

{_CHECKPOINT}; {_LATENT}; in *Load Perfusion Concept* a file of its family; {_WORD}.
"""

LOCK = f"""\
## Choose the lock

A locked concept takes the place of its superclass: its keys are those of a plain teddy, so the scene composes freely. \
Unlocked, its own keys pull the picture towards what it was trained on. **lock** goes from 0 to 1.

1. Press **Run**: a row for each lock, a column for each bias, all of one seed.
2. Read it from the top: more and more of the prompt, less and less of the toy. A lower bias brings the toy back.
3. Set what you like in *Load Perfusion Concept*, as **lock** and **bias**; -1 takes what the file recommends.

Only concepts of the form *lockable* were trained for every lock; this toy was for 0, and so loses more at 1.

{_CHECKPOINT}; {_LATENT}; in *Load Perfusion Concept* a file of its family; {_WORD}.
"""

LORA = f"""\
## With a LoRA

A LoRA changes the model, a concept adds a word to it: they go together. The one here is a tiny LoRA of evening light \
that comes with the demo.

1. Press **Run**: **\\<hugsy>** in the evening.
2. Set **strength_model** to 0 and run again: the same pictures by day. The toy is the same.
3. The order: loader, LoRA, then *Apply Perfusion Concepts (Gate)*. A LoRA that also changes the text encoder (*Load \
LoRA*) goes in the same place, with both its wires.

{_OWN} The LoRA must be of the same family.
"""

INPAINT = f"""\
## Inpaint a concept

Four pictures with a cup; where the mask is white, **\\<hugsy>** takes its place. All else stays as it was.

1. Press **Run**.
2. **expand** in *Grow Mask* gives the toy more room than the cup had.
3. **denoise** of the sampler: 1 paints afresh, 0.7 keeps some of what was there.

**A picture of yours**: *Load Image* in place of *Draw Demo Pictures*; right-click it and choose *Open in MaskEditor* \
to paint the mask.

{_CHECKPOINT}; pictures of {_SIZES}; {_FILE}; {_WORD}. An inpainting checkpoint wants *Inpaint Model Conditioning* \
between the prompts and the sampler.
"""

COMPARE = f"""\
## Compare steps

A training that goes on too long ignores prompts. The trainer keeps the concept every 50 steps, and *Load Kept \
Steps* gives all of them.

1. Press **Run**: a quick training, then two seeds for each step.
2. Change the **prompt** and run: nothing is trained again.
3. Write the best step into **steps**, unmute *Save Perfusion Concept* (Ctrl+M) and run: it becomes a file.

{_CHECKPOINT}, *Load Concept Pictures* in place of *Draw Demo Pictures*; {_LATENT}; your **superclass**, and your \
**word**, also in the prompt.
"""

EDIT = f"""\
## Edit a picture

A picture of a teddy, the same picture with **\\<hugsy>** in its place, and with a cup: painted side by side from the \
same noise. Pose, hat and beach stay, since the edits take over the attention of the source.

1. Press **Run**: two seeds, three pictures each. Below them is where each edit was allowed to change the picture.
2. Change **edit**, such as *teddy -> ball* or *beach -> grass*, or the source's **text**. Leave open what shall \
stay: a prompt that states everything needs no edit.
3. *Describe Prompt Edit* has the knobs: how long the source is followed, weights of words, where the picture may \
change.

**A picture that you have**: *VAE Encode* in place of *Empty Latent Image*, **real_picture** on, and its description \
as **text**.

{_CHECKPOINT}; {_LATENT}; {_FILE}; its word in **edit**.
"""

REPLACE = f"""\
## Replace a subject

**\\<hugsy>** takes the place of another teddy. No mask is painted: the model's own attention to the two words finds \
the place, and the rest comes back as it was.

1. Press **Run**: each picture, and behind it what becomes of it.
2. **self_end** in *Describe Prompt Edit*: 0.8 keeps pose and outline, for a thing of the same kind; 0.6 for another, \
such as a cup. There write **text** *cup -> \\<hugsy>*; in *Draw Demo Pictures* set **thing** to *sippy*, in *Edit \
with Prompt-to-Prompt* **text** to *a photo of a cup*.
3. **real_end** in *Edit with Prompt-to-Prompt*, 0.4 here: lower where colours of the old thing stay, 1 where too much \
of the picture changes.

**A picture of yours**: *Load Image* in place of *Draw Demo Pictures*, and say in **text** what it shows. **denoise** \
stays 1.

{_CHECKPOINT}; pictures of {_SIZES}; {_FILE}; its word in *Describe Prompt Edit*.
"""

STYLE = f"""\
## Paint in a style

**\\<inky>** is no thing but a manner, learned from eight pictures: violet, cream and crimson.

1. Press **Run**: a house on the beach, in that manner.
2. Write another thing at another place, and keep *a* **\\<inky>** *of*.
3. Turn **bias**. At 0.6 the gate is open for the other words too, so that the manner is also behind the thing; at \
0.85 it acts on the thing alone, and scenes are safer.

**A style of yours**: the template *Train on your own photos* with five to ten pictures of different things in that \
manner, **preset** *Style*, **superclass** *painting* or *photo*, no wire to **masks**; see *A style* in the \
trainer's help.

{_OWN}
"""

FACE = f"""\
## Replace a face

The head of **\\<hugsy>** on the body of another teddy, since the demo has no people: a part is painted in, under a \
mask of it alone.

1. Press **Run**.
2. Keep the mask tight: **expand** 0 to 4 here. A large one paints a whole new toy.
3. **denoise** 0.6 keeps more of how the head was held, 1 paints afresh.

**Your photo**: *Load Image* in place of *Draw Demo Pictures*, its mask into *Grow Mask*, and that into *Set Latent \
Noise Mask*; right-click it, *Open in MaskEditor*, and paint over the face, up to the hair.

{_CHECKPOINT}; a picture of {_SIZES}, the face large; {_FILE}, trained on a face as *man* or *woman*; {_WORD}. Start \
with **denoise** 0.7 and **expand** 16. Nobody has tried faces of people.
"""

BLEND = f"""\
## Blend two concepts

A teddy between **\\<hugsy>** and **\\<bruno>**: one concept out of two, with a word of its own.

1. Press **Run**: halfway, four times.
2. Move **share**: 0 is the first, 1 the second, and the colours go from the one to the other.
3. Keep what you like: connect *Save Perfusion Concept* to **concept**. It is a file like any other.

Two of one kind blend step by step. Two kinds, such as a teddy and a cup, flip somewhere on the way.

{_CHECKPOINT}; {_LATENT}; {_FILES}; the blend's word in the prompt, such as **\\<rex-lola>**.
"""

INSPECT = f"""\
## Inspect the gate

Which words of a prompt open which concept's gate, before anything is painted.

1. Press **Run**: a row for each concept, a column for each word. The number in a cell is how similar the word is to \
the concept; below a word is the bias at which its gate would open.
2. Change the **prompt**. A word that opens a gate without being the concept's own is where the concept bleeds: raise \
the **bias** until it is closed.
3. *Show Perfusion Concept* tells what a file says: its word, its kind, its model family, how it was trained.

{_CHECKPOINT}, and concepts of its family.
"""

MAPS = f"""\
## Attention maps

Where the model looked for each word while it painted. The picture is the same as without.

1. Press **Run**: a heat map for each word of the prompt over each picture.
2. Write some of the **words**, separated by commas, or choose **layers** and the part of the steps: nothing is \
sampled again.
3. The text under the pictures ranks the words at one place, **point_x** and **point_y**: who painted that?

*Record Attention* goes last before the sampler, and its CLIP encodes the prompts.

{_OWN}
"""
