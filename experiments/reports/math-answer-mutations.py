"""Changes golds so that they keep their value, and so that they do not, and counts what `moerl judge math`
says otherwise.

    python3 math-answer-mutations.py MOERL GOLDS...

GOLDS are files of rows with an "answer". Not every change does what it means to: -0 is 0.
"""
import collections
import json
import random
import re
import subprocess
import sys

random.seed(0)


def same(g):
    out=[]
    out.append(('dollar','$'+g+'$'))
    out.append(('spaces',' '+g.replace('+',' + ').replace('=',' = ')+' ' if '\\text' not in g else g))
    out.append(('frac->dfrac',g.replace('\\frac','\\dfrac')))
    out.append(('left',re.sub(r'(?<!\\left)\(', r'\\left(', re.sub(r'(?<!\\right)\)', r'\\right)', g)) if '(' in g and g.count('(')==g.count(')') and '\\left' not in g else g))
    out.append(('boxed','\\boxed{'+g+'}'))
    out.append(('dot',g+'.'))
    out.append(('displaystyle','\\displaystyle '+g))
    out.append(('paren','('+g+')' if re.fullmatch(r'[-0-9a-z\\{}^+ ]*',g) else g))
    if re.fullmatch(r'-?\d+',g):
        out.append(('x=','x = '+g)); out.append(('.0',g+'.0')); out.append(('text','\\text{'+g+'}')); out.append(('unit',g+'\\text{ units}')); out.append(('frac1','\\frac{'+g+'}{1}'))
        out.append(('prod','2\\cdot\\frac{%s}{2}'%g)); out.append(('sum','%d+%d'%(int(g)-3,3)))
        if len(g)>4 : out.append(('thousand',f'{int(g):,}')); out.append(('thousand2',f'{int(g):,}'.replace(',','{,}'))); out.append(('thousand3',f'{int(g):,}'.replace(',','\\,')))
    m=re.fullmatch(r'(-?)\\frac\{(-?\d+)\}\{(\d+)\}',g)
    if m:
        out.append(('slash',m[1]+m[2]+'/'+m[3])); out.append(('unreduced','%s\\frac{%d}{%d}'%(m[1],int(m[2])*6,int(m[3])*6)))
        v=int(m[2])/int(m[3])*(-1 if m[1] else 1); out.append(('decimal',repr(v)))
        out.append(('signin','\\frac{%d}{%d}'%(-int(m[2]) if m[1] else int(m[2]),int(m[3]))))
        out.append(('inv','%s%s \\div %s'%(m[1],m[2],m[3]))); out.append(('pow','%s%s \\cdot %s^{-1}'%(m[1],m[2],m[3])))
    out.append(('sqrt^',re.sub(r'\\sqrt\{(\d+)\}',r'{\1}^{1/2}',g) if '\\text' not in g else g))
    out.append(('sqrt uni',re.sub(r'\\sqrt\{(\d+)\}',r'√\1',g)))
    out.append(('pi uni',g.replace('\\pi','π')))
    out.append(('cdot',g.replace('\\pi',' \\cdot \\pi') if re.match(r'\d+\\pi',g) else g))
    return [(n,p) for n,p in out if p!=g or n in('boxed','dollar')]
def diff(g):
    out=[]
    # change one digit
    ds=[i for i,c in enumerate(g) if c.isdigit()]
    for i in random.sample(ds,min(3,len(ds))):
        c=random.choice([x for x in '0123456789' if x!=g[i]])
        out.append(('digit',g[:i]+c+g[i+1:]))
    ss=[i for i,c in enumerate(g) if c in '+-']
    for i in ss: out.append(('sign',g[:i]+('-' if g[i]=='+' else '+')+g[i+1:]))
    if not g.startswith('-') and re.match(r'[\d\\]',g): out.append(('neg','-'+g))
    vs=[i for i,c in enumerate(g) if c in 'xyabnk' and not re.search(r'\\[a-z]*$',g[:i]) and '\\text' not in g]
    for i in vs[:2]: out.append(('var',g[:i]+'q'+g[i+1:]))
    if '\\sqrt' in g: out.append(('nosqrt',g.replace('\\sqrt','')))
    if '\\pi' in g: out.append(('nopi',g.replace('\\pi','')))
    if '\\frac' in g: 
        m=re.search(r'\\frac\{([^{}]*)\}\{([^{}]*)\}',g)
        if m and m[1]!=m[2]: out.append(('invert',g.replace(m[0],'\\frac{%s}{%s}'%(m[2],m[1]))))
    out.append(('plus1',g+'+1' if not g.endswith('}') or 'frac' in g or 'sqrt' in g else g+'+1'))
    out.append(('list',g+', 7'))
    out.append(('or',g+' \\text{ or } 7'))
    out.append(('interval open',g.replace('[','(') if '[' in g else g))
    out.append(('interval close',g.replace('(','[') if '(' in g and '\\infty' not in g and g.endswith((')',']')) and g.startswith('(') and ',' in g else g))
    if re.fullmatch(r'-?\d+',g): out+= [('append',g+'0') , ('off',str(int(g)+1)),('times','%s x'%g),('sq',g+'^2' if g not in('0','1') else g+'9'),('eps',g+'.001')]
    return [(n,p) for n,p in out if p!=g]


def main(moerl, *gold_files):
    golds = set()
    for file in gold_files:
        rows = [json.loads(line) for line in open(file)] if file.endswith("l") else json.load(open(file))
        golds |= {row["answer"] for row in rows if isinstance(row["answer"], str) and row["answer"]}
    cases = []
    for gold in sorted(golds):
        cases += [(gold, changed, True, name) for name, changed in same(gold)]
        cases += [(gold, changed, False, name) for name, changed in diff(gold)]
    lines = "".join(json.dumps({"response": changed, "ground_truth": gold}) + "\n"
                    for gold, changed, _, _ in cases)
    out = subprocess.run([moerl, "judge", "math", "-", "--max-unscorable", "1", "-o", "extraction=none"],
                         input=lines, capture_output=True, text=True, check=True).stdout
    counts, wrong = collections.Counter(), collections.defaultdict(list)
    for (gold, changed, is_same, name), line in zip(cases, out.splitlines()):
        counts[is_same] += 1
        if (json.loads(line)["status"] == "correct") != is_same:
            wrong[is_same].append((name, gold, changed))
    for is_same in (True, False):
        print(f"{'same value' if is_same else 'another value'}: {counts[is_same]} mutations, "
              f"{len(wrong[is_same])} judged otherwise")
        for case in wrong[is_same]:
            print("  ", *case, sep=" | ")


main(*sys.argv[1:])
