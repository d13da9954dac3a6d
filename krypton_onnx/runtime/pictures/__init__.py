"""Drawing heat maps, and saying in words what they show. Imported only where something is drawn or said.

colors, words -> texts, layout -> panels, worst, scales, notes -> compose, which draws a look; figure saves, html is for
notebooks.
"""
